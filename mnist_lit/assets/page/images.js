// An image file -> the picture in it, or why there is none: in the words of images.py.

const LARGEST = 1024 // pixels of a picture's longer side that are looked at
const SVG = "image/svg+xml"
const DAMAGED = "a damaged image"
const KINDS = [ // how a file starts, its type, and what is said if the browser cannot show it
  [/^\x89PNG\r\n/, "image/png", DAMAGED],
  [/^\xff\xd8\xff/, "image/jpeg", DAMAGED],
  [/^GIF8/, "image/gif", DAMAGED],
  [/^RIFF[^]{4}WEBP/, "image/webp", DAMAGED],
  [/^BM[^]{4}\0{4}/, "image/bmp", DAMAGED],
  [/^(II\*\0|MM\0\*)/, "image/tiff", "a TIFF image, which this browser does not read: save it as PNG"],
  [/^[^]{4}ftypavi[fs]/, "image/avif", "an AVIF image, which this browser does not read: save it as PNG"],
  [/^[^]{4}ftyp(hei[cx]|hevc|m[is]f1)/, "image/heic", "a HEIC photo, which this browser does not read: save it as JPEG"],
  [/^(\xef\xbb\xbf)?\s*%PDF-/, "application/pdf", "a PDF document: save its page as PNG, as a screenshot"],
  [/^(\xef\xbb\xbf)?\s*(?=<)[^]*<svg/, SVG, "an SVG drawing, which this browser does not read: export it as PNG"],
  [/^/, "application/octet-stream", "not an image in one of the formats PNG, JPEG, BMP, WEBP, GIF, SVG"],
]

// A file -> {type, image, zoom, animated}: its first picture on a canvas, and by how much it was made smaller.
async function pictureOf(file) {
  if (!file.size) throw new Error("the file is empty")
  const start = String.fromCharCode(...new Uint8Array(await file.slice(0, 1000).arrayBuffer()))
  const [, type, wrong] = KINDS.find(([pattern]) => pattern.test(start))
  const drawn = type === SVG ? svgOf(file) : createImageBitmap(file)
  const source = await drawn.catch(() => { throw new Error(wrong) })
  const { width, height } = source
  const zoom = LARGEST / Math.max(width, height, type === SVG ? 1 : LARGEST)
  const image = newCanvas(...[width, height].map(side => Math.max(1, Math.round(zoom * side))))
  const pen = image.getContext("2d")
  pen.imageSmoothingQuality = "high"
  pen.drawImage(source, 0, 0, image.width, image.height)
  fillTransparent(image)
  return { type, image, zoom, animated: await isAnimated(file, type) }
}

// As an image an SVG runs no scripts and loads nothing, and of a data address its pixels may be read.
async function svgOf(file) {
  const image = new Image()
  image.src = await new Promise(resolve => {
    const reader = new FileReader()
    reader.onload = () => resolve(reader.result)
    reader.readAsDataURL(new Blob([file], { type: SVG }))
  })
  await image.decode()
  return image
}

// What is transparent becomes paper: in its own shade on a sheet with holes, else so that ink is seen.
function fillTransparent(image) {
  const pen = image.getContext("2d")
  const { data } = pen.getImageData(0, 0, image.width, image.height)
  let opaque = 0, light = 0
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] < 128) continue
    opaque++
    light += data[i] + data[i + 1] + data[i + 2]
  }
  const white = (light > 381 * opaque && opaque > 0) === opaque > data.length / 8
  Object.assign(pen, { globalCompositeOperation: "destination-over", fillStyle: white ? "white" : "black" })
  pen.fillRect(0, 0, image.width, image.height)
}

async function isAnimated(file, type) {
  if (!self.ImageDecoder || !(await ImageDecoder.isTypeSupported(type))) return false
  const decoder = new ImageDecoder({ data: await file.arrayBuffer(), type })
  await decoder.tracks.ready
  const frames = decoder.tracks.selectedTrack.frameCount
  decoder.close()
  return frames > 1
}
