import { type ReactNode, useRef } from 'react'
import { isRaster } from '../format.ts'
import { withPlaces } from '../places.ts'

/** An image that opens in full size over the page. Escape or a click closes it. */
export function Zoomable({
  src,
  name,
  className,
  children,
}: {
  src: string
  name: string
  className: string
  children?: ReactNode
}) {
  const dialog = useRef<HTMLDialogElement>(null)
  return (
    <>
      <button
        type="button"
        onClick={() => dialog.current?.showModal()}
        aria-label={`Show ${name}`}
        className="block cursor-zoom-in! rounded text-left"
      >
        <img data-testid="image-preview" src={src} alt={name} loading="lazy" className={className} />
        {children}
      </button>
      <dialog
        ref={dialog}
        onClick={() => dialog.current?.close()}
        className="m-auto max-h-[94dvh] max-w-[94vw] bg-transparent backdrop:bg-black/85"
      >
        <button type="button" aria-label="Close" className="block cursor-zoom-out! outline-none">
          <img
            src={src}
            alt={name}
            loading="lazy"
            className="max-h-[90dvh] max-w-[92vw] rounded bg-[repeating-conic-gradient(#222_0_25%,#1a1a1a_0_50%)] bg-size-[16px_16px] object-contain"
          />
        </button>
      </dialog>
    </>
  )
}

/** The images in a tool's result. A format that is a document rather than a picture is only named. */
export function EventImages({ images }: { images: readonly { mimeType: string; data: string }[] }) {
  return (
    <div className="mt-1 flex flex-wrap items-start gap-2">
      {withPlaces(images).map(({ place, item: image }) =>
        isRaster(image.mimeType) ? (
          <Zoomable
            key={place}
            src={`data:${image.mimeType};base64,${image.data}`}
            name={`image ${place + 1}`}
            className="max-h-64 max-w-full rounded border border-line"
          />
        ) : (
          <span key={place} className="rounded border border-line px-2 py-1 guest-text">
            {image.mimeType} (not shown)
          </span>
        ),
      )}
    </div>
  )
}
