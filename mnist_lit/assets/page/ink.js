// Where the ink of a photo is, and a digit of it -> 28 x 28, as MNIST shows it: the way of ink.py.
//
// A smooth surface is fitted to the paper; what differs from it along the ink's own colour is ink.
"use strict"

const SEEN_AT = 128 // pixels of the longer side at which the ink of a digit is looked for
const MIN_CONTRAST = 0.06, MAX_NOISE = 0.5, BLANK = 0.1 // as in ink.py
const USUAL_STROKE = 2.5, THIN_STROKE = 1.7 // pixels of a digit of 20
const NOTHING = "blank: nothing stands out from the paper"

class UnreadableError extends Error {}

const inkMask = levels => mapped(smoothed(levels), value => +(value > 0.3))

function inkBox(levels, least) {
  const box = maskBox(levels, least)
  if (!box) throw new UnreadableError(NOTHING)
  return box
}

// 1, x, y, x^2, xy, y^2 at a pixel's centre; x and y are from -1 to 1.
function termsAt(i, width, height) {
  const x = (2 * (i % width) + 1) / width - 1, y = (2 * Math.floor(i / width) + 1) / height - 1
  return [1, x, y, x * x, x * y, y * y]
}

// Gaussian elimination: rows of a matrix with their right sides -> for each column of these, x.
function solved(rows) {
  const n = rows.length
  for (let i = 0; i < n; i++) {
    let pivot = i
    for (let j = i + 1; j < n; j++) if (Math.abs(rows[j][i]) > Math.abs(rows[pivot][i])) pivot = j
    ;[rows[i], rows[pivot]] = [rows[pivot], rows[i]]
    rows[i] = rows[i].map(value => value / rows[i][i])
    const own = rows[i]
    for (let j = 0; j < n; j++) {
      if (j !== i && rows[j][i]) {
        const times = rows[j][i]
        rows[j] = rows[j].map((value, k) => value - times * own[k])
      }
    }
  }
  return rows.map(row => row.slice(n))
}

// Three planes -> the same without what is on the paper: a quadratic surface for each, fitted by
// iteratively reweighted least squares with Tukey's biweight, as paper() of ink.py.
function paperOf(colors) {
  const { width, height } = colors[0], scale = Math.min(1, 32 / Math.max(width, height))
  const [w, h] = [width, height].map(length => Math.max(1, Math.round(scale * length)))
  const sample = colors.map(plane => resized(plane, w, h).data), number = w * h
  const terms = Array.from({ length: number }, (_, i) => termsAt(i, w, h))
  const stiff = [0, 1, 1, 10, 10, 10].map(value => 0.001 * value * number)
  const median = colors.map(borderMedian)
  const farthest = (i, surface) => Math.max(...surface.map((value, c) => Math.abs(sample[c][i] - value)))
  let residual = terms.map((_, i) => farthest(i, median)), surface
  const valueAt = term => [0, 1, 2].map(c => term.reduce((sum, value, k) => sum + value * surface[k][c], 0))
  for (const far of [0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05]) {
    const rows = Array.from({ length: 6 }, () => new Array(9).fill(0))
    terms.forEach((term, i) => {
      const weight = Math.max(1 - (residual[i] / far) ** 2, 0) ** 2
      if (!weight) return
      for (let a = 0; a < 6; a++) {
        for (let b = 0; b < 6; b++) rows[a][b] += weight * term[a] * term[b]
        for (let c = 0; c < 3; c++) rows[a][6 + c] += weight * term[a] * sample[c][i]
      }
    })
    rows.forEach((row, a) => { row[a] += stiff[a] * far })
    rows[0][0] += 1e-6 // solvable when nothing is near the surface
    surface = solved(rows)
    residual = terms.map((term, i) => farthest(i, valueAt(term)))
  }
  const found = [0, 1, 2].map(() => planeOf(width, height))
  for (let i = 0; i < width * height; i++) valueAt(termsAt(i, width, height)).forEach((value, c) => { found[c].data[i] = value })
  return found
}

function borderMedian({ width, height, data }) {
  const border = [...data.subarray(0, width), ...data.subarray((height - 1) * width)]
  for (let y = 0; y < height; y++) border.push(data[y * width], data[(y + 1) * width - 1])
  return quantile(border, 0.5)
}

// Three planes -> {levels, both}: 0 on paper to 1 in a stroke, no side over `seenAt`; and whether some
// of what differs is darker, some lighter than the paper. `shade` -1 looks for darker ink alone, 1
// for lighter; `uneven` takes what stands on anything, too.
function findInk(colors, seenAt, { shade = 0, uneven = false } = {}) {
  const seen = reduced(colors, seenAt), { width, height } = seen[0], number = width * height
  const paper = paperOf(seen)
  const apart = seen.map((plane, c) => mapped(plane, (value, i) => value - paper[c].data[i]).data)
  const lengths = planeOf(width, height), lighter = new Float32Array(number), ink = new Float32Array(number)
  for (const values of apart) {
    for (let i = 0; i < number; i++) {
      lengths.data[i] += values[i] * values[i]
      lighter[i] += values[i]
    }
  }
  const distance = smoothed(mapped(lengths, Math.sqrt)).data
  for (let i = 0; shade && i < number; i++) if (lighter[i] * shade <= 0) distance[i] = 0
  const most = largest(distance), color = apart.map(() => 0)
  let strong = 0, light = 0
  for (let i = 0; i < number; i++) {
    if (distance[i] < 0.5 * most) continue
    strong++
    light += lighter[i] > 0
    for (let c = 0; c < color.length; c++) color[c] += apart[c][i]
  }
  color.forEach((sum, c) => { color[c] = sum / strong })
  const contrast = Math.hypot(...color), squared = Math.max(contrast, 1e-6) ** 2
  apart.forEach((values, c) => { for (let i = 0; i < number; i++) ink[i] += (values[i] * color[c]) / squared })
  const noise = quantile(ink.map(Math.abs), 0.25) / 0.3186 // as of a normal distribution
  if (contrast < MIN_CONTRAST || (MAX_NOISE < noise && noise < BLANK / contrast)) throw new UnreadableError(NOTHING)
  if (noise > MAX_NOISE && !uneven) throw new UnreadableError("no digit: nothing like ink on paper")
  const floor = Math.min(Math.max(0.05, 3 * noise), 0.4)
  const levels = mapped(planeOf(width, height, ink), value => Math.min(Math.max((value - floor) / (1 - floor), 0), 1))
  return { levels, both: 0.1 < light / strong && light / strong < 0.9 }
}

// 1 on and around connected parts of at least a tenth of the largest.
function largeParts({ width, height, data }) {
  const step = Math.max(1, Math.floor(Math.max(width, height) / 32)) // coarse cells join small gaps
  const cells = planeOf(Math.ceil(width / step), Math.ceil(height / step)), result = planeOf(width, height)
  const each = visit => {
    for (let y = 0; y < height; y++) {
      let cell = Math.floor(y / step) * cells.width
      for (let x = 0, left = step; x < width; x++, left--) {
        if (!left) {
          cell++
          left = step
        }
        visit(y * width + x, cell)
      }
    }
  }
  each((i, cell) => { if (data[i]) cells.data[cell] = 1 })
  const { labels, parts } = labelled(cells), most = Math.max(0, ...parts.map(part => part.area))
  const kept = dilated(mapped(cells, (_, i) => +(labels[i] > 0 && parts[labels[i] - 1].area >= most / 10)))
  each((i, cell) => { result.data[i] = kept.data[cell] })
  return result
}

const times = (a, b) => mapped(a, (value, i) => value * b.data[i])

function digitOf(ink) {
  return centred(scaled(cropped(ink, inkBox(ink, 0.1))))
}

// Ink in its box -> its longer side at 20 pixels, and no stroke much thinner than MNIST's.
function scaled(ink) {
  const pixel = sideOf(ink) / 20
  // A stroke is as wide as its area over half of its outline, which is the sum of all gradients.
  const at = (x, y) => (x < 0 || y < 0 || x >= ink.width || y >= ink.height ? 0 : ink.data[y * ink.width + x])
  let outline = 0, area = 0
  for (let y = -1; y <= ink.height; y++) {
    for (let x = -1; x <= ink.width; x++) {
      area += at(x, y)
      const across = (at(x + 1, y) - at(x - 1, y)) / (x < 0 || x === ink.width ? 1 : 2)
      const down = (at(x, y + 1) - at(x, y - 1)) / (y < 0 || y === ink.height ? 1 : 2)
      outline += Math.hypot(across, down)
    }
  }
  const stroke = (2 * area) / outline / pixel
  const [width, height] = [ink.width, ink.height].map(side => Math.max(1, Math.round(side / pixel)))
  let drawing = ink
  if (stroke < THIN_STROKE) {
    const finer = 4, by = Math.round(((USUAL_STROKE - stroke) * finer) / 2)
    drawing = resized(drawing, finer * width, finer * height, true)
    const padded = planeOf(drawing.width + 2 * by, drawing.height + 2 * by)
    for (let y = 0; y < drawing.height; y++) {
      padded.data.set(drawing.data.subarray(y * drawing.width, (y + 1) * drawing.width), (y + by) * padded.width + by)
    }
    drawing = dilated(padded, by)
  }
  const small = resized(drawing, width, height, true)
  // Strokes turn grey when they shrink; MNIST's are white along their middle.
  const most = largest(small.data)
  const white = quantile(small.data.filter(value => value > 0.25 * most), 0.75)
  return mapped(small, value => Math.min(Math.max(value / white, 0), 1))
}

// Up to 20 x 20 -> 28 x 28 with the centre of mass in the middle pixel.
function centred({ width, height, data }) {
  let sum = 0, x = 0, y = 0
  data.forEach((value, i) => {
    sum += value
    x += value * ((i % width) + 0.5)
    y += value * (Math.floor(i / width) + 0.5)
  })
  const place = (centre, side) => Math.min(Math.max(14 - Math.floor(centre), 0), 28 - side)
  const left = place(x / sum, width), top = place(y / sum, height), frame = new Float32Array(784)
  for (let row = 0; row < height; row++) frame.set(data.subarray(row * width, (row + 1) * width), (top + row) * 28 + left)
  return frame
}

// Ink of one digit alone, 0 on paper to 1 in a stroke -> (784), as MNIST shows it; null if there is none.
function asMnist(levels, width, height) {
  const ink = planeOf(width, height, levels)
  return maskBox(ink, 0.1) && digitOf(ink)
}
