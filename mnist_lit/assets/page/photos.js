// Photos and sample digits: a file -> what is shown of it and what is read in it.

const MAX_BYTES = 20_000_000 // of a photo, here as on the server
const LARGEST = 1024 // pixels of a photo's longer side that are looked at

// (28 x 28) images -> their readings, each with its `pixels`.
function judged(reader, images) {
  const pixels = new Float32Array(784 * images.length)
  images.forEach((image, i) => pixels.set(image, 784 * i))
  return reader.read(pixels, images.length).map((answer, i) => ({ ...answer, pixels: images[i] }))
}

// A file -> {image, lines, note} or, if it is refused, {image, lines: [], refused: why}.
async function readPhoto(reader, file) {
  const name = file.name || "The picture"
  const refused = (image, why) => ({ image, lines: [], refused: why })
  if (file.size > MAX_BYTES) {
    return refused(cardOf(name), `${name} has more than ${MAX_BYTES / 1e6} MB. Make it smaller, or cut the digits out.`)
  }
  const bitmap = await createImageBitmap(file).catch(() => null)
  const image = bitmap ? shrunk(bitmap) : cardOf(name)
  try {
    const there = SERVER && (await askServer(file, bitmap ? image.width / bitmap.width : 1))
    if (there) return { image, lines: there }
    if (!bitmap) throw new Error(`${name} is no picture that this browser can read. PNG and JPEG will do.`)
    await new Promise(resolve => setTimeout(resolve)) // lets the page say that it reads
    const note = SERVER ? "The server does not answer: read by the page itself." : ""
    return { image, lines: readHere(reader, image), note }
  } catch (error) {
    return refused(image, error.message)
  }
}

function readHere(reader, image) {
  const colors = image.getContext("2d").getImageData(0, 0, image.width, image.height)
  return prepare(colors, { reader }).lines.map(line => line.map(({ box, ...digit }) => ({ ...digit, imageBox: box })))
}

// What the server reads; null if it does not answer.
async function askServer(file, zoom) {
  const response = await fetch("read", { method: "POST", body: file }).catch(() => null)
  const answer = response && (await response.json().catch(() => null))
  if (!answer) return null
  if (!response.ok) throw new Error(answer.error)
  return answer.lines.map(line => line.map(digit => (
    { ...digit, pixels: Float32Array.from(digit.pixels, value => value / 255), imageBox: digit.box.map(edge => zoom * edge) })))
}

function shrunk(bitmap) {
  const zoom = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height))
  const [width, height] = [bitmap.width, bitmap.height].map(side => Math.max(1, Math.round(zoom * side)))
  const canvas = newCanvas(width, height)
  const pen = canvas.getContext("2d")
  pen.imageSmoothingQuality = "high"
  pen.drawImage(bitmap, 0, 0, width, height)
  return canvas
}

// Stands for a file that the browser cannot show.
function cardOf(name) {
  const canvas = newCanvas(400, 300)
  const pen = canvas.getContext("2d")
  Object.assign(pen, { fillStyle: "#7b8494", font: "20px system-ui, sans-serif", textAlign: "center" })
  pen.fillText(name.length > 36 ? `${name.slice(0, 33)} …` : name, 200, 155)
  return canvas
}

// A sample digit, in the colour of the pen -> as readPhoto.
function readSample(reader, sample, ink) {
  const pixels = Float32Array.from(samplePixels(sample), value => value / 255)
  const image = paint(newCanvas(28, 28), pixels, value => [...ink, byte(value)])
  return { image, lines: [judged(reader, [pixels])] }
}

// 28 x 28, white on black -> four times as large, dark on white, as predict takes it.
function enlarged(pixels) {
  const [by, side] = [4, 112]
  const levels = Uint8Array.from({ length: side * side }, (_, i) => {
    const [x, y] = [Math.floor((i % side) / by), Math.floor(i / side / by)]
    return byte(1 - pixels[28 * y + x])
  })
  return { levels, side }
}
