import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { createInterface } from 'node:readline'
import { log } from './log.ts'

/** Numbers of `clock_settime` and `mount` (Linux: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). */
const SYSCALLS: Partial<Record<NodeJS.Architecture, [clockSettime: number, mount: number]>> = {
  x64: [227, 165],
  arm64: [112, 40],
}
/** `RNDADDENTROPY` and `RNDRESEEDCRNG` (include/uapi/linux/random.h), `MS_BIND` (include/uapi/linux/mount.h). */
const [ADD_ENTROPY, RESEED, BIND] = [0x40085203, 0x5207, 4096]

/**
 * Answers each line with `ok` or what went wrong. System calls want variables: perl refuses to hand out the address of a
 * constant.
 */
const HELPER = `
use strict;
$| = 1;
$0 = 'vivarium-kernel';
my ($clock_settime, $mount) = @ARGV;
open(my $random, '+<', '/dev/urandom') or die "/dev/urandom: $!";
my %calls = (
  clock => sub {
    my $time = pack('q q', @_);
    return syscall($clock_settime, 0, $time) == 0;
  },
  entropy => sub {
    my $pool = pack('l l H*', 8 * length($_[0]) / 2, length($_[0]) / 2, $_[0]);
    return ioctl($random, ${ADD_ENTROPY}, $pool) && ioctl($random, ${RESEED}, 0);
  },
  bind => sub {
    my ($from, $to, $type) = (@_, 'none');
    return syscall($mount, $from, $to, $type, ${BIND}, 0) == 0;
  },
);
while (my $line = <STDIN>) {
  my ($name, @arguments) = split ' ', $line;
  print $calls{$name}->(@arguments) ? "ok\\n" : "$!\\n";
}
`
const DEADLINE_MS = 5000

type Helper = ChildProcessByStdio<Writable, Readable, null>
interface Answer {
  resolve(text: string): void
  reject(error: Error): void
}

/**
 * System calls that Node has not, made by a perl process (part of every Debian) that is started once, so that a machine that was
 * saved starts none when it goes on. One that has died is replaced.
 */
export class Kernel {
  #helper: Helper | undefined
  #answers: Answer[] = []
  readonly #identity: { uid?: number; gid?: number }

  /** `identity`: as whom the helper runs; as this process unless given. */
  constructor(identity: { uid?: number; gid?: number } = {}) {
    this.#identity = identity
    this.ensure()
  }

  /** Makes sure that there is a helper before one is needed. */
  ensure(): void {
    this.#helper ??= this.#start()
  }

  /** Sets the clock, to milliseconds since the epoch. */
  setClock(wallClockMs: number): Promise<void> {
    const seconds = Math.floor(wallClockMs / 1000)
    return this.#call(`clock ${seconds} ${Math.floor((wallClockMs - seconds * 1000) * 1e6)}`)
  }

  /** Mixes secret random bytes into the kernel's pool, credits them in full, and begins its random numbers anew from there. */
  addEntropy(hex: string): Promise<void> {
    return this.#call(`entropy ${hex}`)
  }

  /** Shows the file `from` at `to`. Paths without white space. */
  bind(from: string, to: string): Promise<void> {
    return this.#call(`bind ${from} ${to}`)
  }

  /** Ends the helper. */
  close(): void {
    this.#helper?.kill('SIGKILL')
  }

  async #call(line: string): Promise<void> {
    const answer = await this.#ask(line).catch((error: Error) => {
      // Killed by somebody, most likely: another one will do.
      log(`kernel: ${error.message}`)
      return this.#ask(line)
    })
    if (answer !== 'ok') throw new Error(answer)
  }

  #ask(line: string): Promise<string> {
    const helper = (this.#helper ??= this.#start())
    return new Promise((resolve, reject) => {
      // What does not answer is ended, which rejects this.
      const timer = setTimeout(() => helper.kill('SIGKILL'), DEADLINE_MS)
      const settled = { resolve, reject }
      this.#answers.push({
        resolve: (text) => (clearTimeout(timer), settled.resolve(text)),
        reject: (error) => (clearTimeout(timer), settled.reject(error)),
      })
      helper.stdin.write(`${line}\n`)
    })
  }

  #start(): Helper {
    const numbers = SYSCALLS[process.arch]
    if (numbers === undefined) throw new Error(`no system call numbers for ${process.arch}`)
    const helper = spawn('perl', ['-e', HELPER, ...numbers.map(String)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      ...this.#identity,
    })
    helper.stdin.on('error', () => undefined)
    createInterface(helper.stdout).on('line', (text) => this.#answers.shift()?.resolve(text))
    const over = () => {
      if (this.#helper !== helper) return
      this.#helper = undefined
      for (const { reject } of this.#answers.splice(0)) reject(new Error('the helper process has ended'))
    }
    helper.once('error', over).once('exit', over)
    return helper
  }
}
