// What the network sees of a digit, and what it does with it, painted on canvases.

const made = (parent, name, properties = {}) => parent.appendChild(Object.assign(document.createElement(name), properties))
const newCanvas = (width, height) => Object.assign(document.createElement("canvas"), { width, height })
const byte = level => Math.round(255 * level)

// 28 x 28 values -> a canvas of that size; `color` gives red, green, blue and alpha.
function paint(canvas, values, color) {
  const image = new ImageData(28, 28)
  values.forEach((value, i) => image.data.set(color(value, i), 4 * i))
  canvas.getContext("2d").putImageData(image, 0, 0)
  return canvas
}

// A digit's pixels in grey; with a saliency, orange where they speak for it, blue where against.
function paintSaliency(canvas, pixels, saliency) {
  const smooth = saliency && blurred(saliency) // of single pixels one sees only a pattern
  const most = smooth ? Math.max(...smooth.map(Math.abs)) || 1 : 1
  const small = paint(newCanvas(28, 28), pixels, (value, i) => {
    const grey = byte(0.8 * value)
    if (!smooth) return [grey, grey, grey, 255]
    const share = Math.sqrt(Math.abs(smooth[i]) / most)
    const tint = smooth[i] > 0 ? [255, 150, 30] : [60, 150, 255]
    return [...tint.map(part => (1 - share) * grey * 0.7 + share * part), 255]
  })
  const pen = canvas.getContext("2d")
  pen.imageSmoothingEnabled = false
  pen.drawImage(small, 0, 0, canvas.width, canvas.height)
}

// 28 x 28 -> each with its eight neighbours, by 1/4, 1/2 and 1/4 in both directions.
function blurred(values) {
  const along = (from, step) => from.map((value, i) => value / 2 + ((from[i - step] || 0) + (from[i + step] || 0)) / 4)
  return along(along(values, 1), 28)
}

// A figure for each block: its channels as small images, on one scale.
function showMaps(group, maps) {
  while (group.children.length < maps.length) {
    const figure = made(group, "figure")
    made(figure, "figcaption")
    made(figure, "canvas").setAttribute("role", "img")
  }
  maps.forEach(({ name, channels, height, width, data }, block) => {
    const [caption, canvas] = group.children[block].children
    const text = `${name}: ${channels} of ${height} × ${width}`
    if (caption.textContent !== text) {
      caption.textContent = text
      canvas.setAttribute("aria-label", `Feature maps, ${text}`)
    }
    const columns = channels > 10 ? Math.ceil(channels / 2) : channels
    const size = { width: columns * (width + 1) - 1, height: Math.ceil(channels / columns) * (height + 1) - 1 }
    if (canvas.width !== size.width || canvas.height !== size.height) Object.assign(canvas, size)
    const most = data.reduce((a, b) => Math.max(a, b), 1e-6)
    const image = new ImageData(size.width, size.height)
    data.forEach((value, i) => {
      const [channel, inside] = [Math.floor(i / (height * width)), i % (height * width)]
      const x = (channel % columns) * (width + 1) + (inside % width)
      const y = Math.floor(channel / columns) * (height + 1) + Math.floor(inside / width)
      const share = Math.sqrt(Math.max(0, value) / most)
      const at = 4 * (y * size.width + x)
      image.data[at] = 18 + 220 * share * share
      image.data[at + 1] = 24 + 215 * share
      image.data[at + 2] = 44 + 205 * Math.sqrt(share)
      image.data[at + 3] = 255
    })
    canvas.getContext("2d").putImageData(image, 0, 0)
  })
}
