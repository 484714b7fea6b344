// Photos and sample digits: a file -> what is shown of it and what is read in it.

const MAX_BYTES = 20_000_000 // that a server takes

// (28 x 28) images -> their readings, each with its `pixels`.
function judged(reader, images) {
  const pixels = new Float32Array(784 * images.length)
  images.forEach((image, i) => pixels.set(image, 784 * i))
  return reader.read(pixels, images.length).map((answer, i) => ({ ...answer, pixels: images[i] }))
}

// Files -> {image, lines, note} of the first or, if it is refused, {image, lines: [], refused: why}.
async function readPhoto(reader, [file, ...others]) {
  const notes = others.length ? [`Only the first of ${others.length + 1} files was read.`] : []
  let image = cardOf(file.name || "The picture")
  try {
    if (SERVER && file.size > MAX_BYTES) throw new Error(`more than ${MAX_BYTES / 1e6} MB`)
    const picture = await pictureOf(file).catch(error => ({ error, zoom: 1 }))
    if (picture.image) image = picture.image
    if (picture.animated) notes.push("Only its first picture was read.")
    const asks = SERVER && picture.type !== SVG
    const there = asks && (await askServer(file, picture.zoom))
    if (there) return { image, lines: there, note: notes.join(" ") }
    if (picture.error) throw picture.error
    await new Promise(resolve => setTimeout(resolve)) // lets the page say that it reads
    if (asks) notes.push("The server does not answer: read by the page itself.")
    return { image, lines: readHere(reader, image), note: notes.join(" ") }
  } catch (error) {
    return { image, lines: [], refused: [error.message, ...notes].join(". ") }
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
