/** Where the bytes of tasks lie among the blobs. Prefixes end in `/`. */
export const blobKeys = {
  results: (taskId: string) => `results/${taskId}/`,
  files: (taskId: string) => `results/${taskId}/files/`,
  file: (taskId: string, path: string) => `results/${taskId}/files/${path}`,
  patch: (taskId: string) => `results/${taskId}/patch`,
  transcript: (taskId: string) => `results/${taskId}/transcript.jsonl`,
  /** What a follow-up on another machine needs, as tar files. */
  state: (taskId: string) => `results/${taskId}/state/`,
  workspace: (taskId: string) => `results/${taskId}/state/workspace.tar`,
  conversation: (taskId: string) => `results/${taskId}/state/conversation.tar`,
  inputs: (taskId: string) => `inputs/${taskId}/`,
  /** The contents of the n-th file sent with a task. */
  input: (taskId: string, n: number) => `inputs/${taskId}/${n}`,
  uploads: (uploadId: string) => `uploads/${uploadId}/`,
  upload: (uploadId: string) => `uploads/${uploadId}/workspace.tar`,
}
