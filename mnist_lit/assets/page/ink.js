// A drawing or a photo -> its digits, as MNIST shows them, in lines.
//
// The way of ink.py, page.py and reading.py, in short: a smooth surface is fitted to the paper, what
// differs from it along the ink's own colour is ink, its connected parts make digits, and these make
// lines. Of several ways to take an image, the one whose digits are likeliest is taken. Sheets on a
// desk are cut out but not straightened, and lines are painted over from what is beside them.
"use strict"

const { prepare, asMnist } = (() => {
const SMALL = 512, PAGE_AT = 256, SEEN_AT = 128 // pixels of the longer side: to keep, search, look
const MIN_CONTRAST = 0.06, MAX_NOISE = 0.5, BLANK = 0.1 // as in ink.py
const USUAL_STROKE = 2.5, THIN_STROKE = 1.7 // pixels of a digit of 20
const MAX_DIGITS = 60, MAX_PARTS = 150
const DOUBTFUL = 0.05, SURE = 0.5, UPRIGHT = 0.25, TURNED = 0.95 // as in reading.py
const NOTHING = "blank: nothing stands out from the paper"

class UnreadableError extends Error {}

// {width, height, data: RGBA} -> {lines: [[{pixels, box}]]}, each digit with what `reader`, a
// DigitReader, says of it. Without a reader the plainest way is taken.
function prepare(image, { reader = null } = {}) {
  const ways = layouts(viewOf(planesOf(image)))
  return { lines: reader ? likeliest(reader, ways) : ways[0].lines }
}

// Ink of one digit alone, 0 on paper to 1 in a stroke -> (784), as MNIST shows it; null if there is none.
function asMnist(levels, width, height) {
  const ink = planeOf(width, height, levels)
  return boxOf(ink, 0.1) && digitOf(ink)
}

// ---- planes of numbers ----

const planeOf = (width, height, data = new Float32Array(width * height)) => ({ width, height, data })
const sideOf = plane => Math.max(plane.width, plane.height)

function mapped({ width, height, data }, value) {
  const result = planeOf(width, height)
  for (let i = 0; i < data.length; i++) result.data[i] = value(data[i], i)
  return result
}

// RGBA -> three planes in [0, 1]; what is transparent becomes paper.
function planesOf({ width, height, data }) {
  let opaque = 0, light = 0
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 127) {
      opaque++
      light += data[i] + data[i + 1] + data[i + 2]
    }
  }
  // Mostly opaque: a sheet with holes, filled in its own shade. Else: ink on nothing.
  const white = (light > 381 * opaque && opaque > 0) === (opaque > (width * height) / 2) ? 255 : 0
  return [0, 1, 2].map(channel => mapped(planeOf(width, height), (_, i) => {
    const alpha = data[4 * i + 3] / 255
    return (alpha * data[4 * i + channel] + (1 - alpha) * white) / 255
  }))
}

// For each of `to` pixels, the first of `from` that it takes and their shares: averages of the area
// that it covers or, as Pillow's bilinear filter, a triangle of twice its width.
function sharesOf(from, to, triangle) {
  const scale = from / to, reach = Math.max(scale, 1)
  return Array.from({ length: to }, (_, i) => {
    const middle = (i + 0.5) * scale
    const start = triangle ? Math.max(Math.floor(middle - reach + 0.5), 0) : Math.floor(i * scale + 1e-6)
    const end = triangle ? Math.min(Math.floor(middle + reach + 0.5), from) : Math.min(Math.ceil((i + 1) * scale - 1e-6), from)
    const shares = Array.from({ length: end - start }, (_, j) => {
      const x = start + j
      if (triangle) return Math.max(1 - Math.abs(x + 0.5 - middle) / reach, 0)
      return Math.min(x + 1, (i + 1) * scale) - Math.max(x, i * scale)
    })
    const sum = shares.reduce((total, share) => total + share, 0)
    return { start, shares: shares.map(share => share / sum) }
  })
}

function resized(plane, width, height, triangle = false) {
  const across = sharesOf(plane.width, width, triangle), down = sharesOf(plane.height, height, triangle)
  const half = planeOf(width, plane.height), whole = planeOf(width, height)
  for (let y = 0; y < plane.height; y++) {
    for (let x = 0; x < width; x++) {
      const { start, shares } = across[x], from = y * plane.width + start
      let sum = 0
      for (let j = 0; j < shares.length; j++) sum += shares[j] * plane.data[from + j]
      half.data[y * width + x] = sum
    }
  }
  for (let y = 0; y < height; y++) {
    const { start, shares } = down[y]
    for (let j = 0; j < shares.length; j++) {
      const from = (start + j) * width
      for (let x = 0; x < width; x++) whole.data[y * width + x] += shares[j] * half.data[from + x]
    }
  }
  return whole
}

// By averages, with no side over `side`.
function shrunk(colors, side) {
  const scale = side / sideOf(colors[0])
  if (scale >= 1) return colors
  const [width, height] = [colors[0].width, colors[0].height].map(length => Math.max(1, Math.round(scale * length)))
  return colors.map(plane => resized(plane, width, height))
}

function cropped(plane, [left, top, right, bottom]) {
  const result = planeOf(right - left, bottom - top)
  for (let y = top; y < bottom; y++) {
    result.data.set(plane.data.subarray(y * plane.width + left, y * plane.width + right), (y - top) * result.width)
  }
  return result
}

// Each pixel -> the largest of it and those as far as `reach` to each side.
function dilated(plane, reach = 1) {
  const { width, height, data } = plane, across = planeOf(width, height), result = planeOf(width, height)
  spread(data, across.data, width, height, 1, width, reach)
  spread(across.data, result.data, height, width, width, 1, reach)
  return result
}

// The largest along lines of `length` pixels that lie `step` apart; there are `lines`, `next` apart.
function spread(from, into, length, lines, step, next, reach) {
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < length; i++) {
      const last = Math.min(i + reach, length - 1)
      let most = 0
      for (let j = Math.max(i - reach, 0); j <= last; j++) {
        const value = from[line * next + j * step]
        if (value > most) most = value
      }
      into[line * next + i * step] = most
    }
  }
}

// Means of 3 x 3 pixels, those at the border repeated.
function blurred({ width, height, data }) {
  const sums = planeOf(width, height), result = planeOf(width, height)
  for (let y = 0; y < height; y++) {
    const row = y * width, above = Math.max(y - 1, 0) * width, below = Math.min(y + 1, height - 1) * width
    for (let x = 0; x < width; x++) sums.data[row + x] = data[above + x] + data[row + x] + data[below + x]
    const sum = sums.data
    for (let x = 0; x < width; x++) {
      const left = x ? x - 1 : 0, right = x < width - 1 ? x + 1 : x
      result.data[row + x] = (sum[row + left] + sum[row + x] + sum[row + right]) / 9
    }
  }
  return result
}

const inkMask = levels => mapped(blurred(levels), value => +(value > 0.3))

function largest(numbers) {
  let most = 0
  for (let i = 0; i < numbers.length; i++) if (numbers[i] > most) most = numbers[i]
  return most
}

// The value below which a share of the numbers lies, as numpy's percentile.
function quantile(numbers, share) {
  const sorted = Float32Array.from(numbers).sort(), at = share * (sorted.length - 1), low = Math.floor(at)
  return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low])
}

// [left, top, right, bottom] of what is above `least`, or null.
function boxOf({ width, height, data }, least = 0) {
  let [left, top, right, bottom] = [width, height, -1, -1]
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] > least) {
        left = Math.min(left, x)
        right = Math.max(right, x)
        top = Math.min(top, y)
        bottom = y
      }
    }
  }
  return right < 0 ? null : [left, top, right + 1, bottom + 1]
}

function inkBox(levels, least) {
  const box = boxOf(levels, least)
  if (!box) throw new UnreadableError(NOTHING)
  return box
}

// A mask -> the number of each pixel's connected part, from 1, with what each part measures.
function labelled(mask, diagonal = true) {
  const { width, height, data } = mask, labels = new Int32Array(width * height), stack = [], parts = []
  for (let first = 0; first < data.length; first++) {
    if (!data[first] || labels[first]) continue
    const part = { label: parts.length + 1, area: 0, left: width, top: height, right: 0, bottom: 0 }
    labels[first] = part.label
    stack.push(first)
    while (stack.length) {
      const at = stack.pop(), x = at % width, y = (at - x) / width
      part.area++
      part.left = Math.min(part.left, x)
      part.right = Math.max(part.right, x + 1)
      part.top = Math.min(part.top, y)
      part.bottom = Math.max(part.bottom, y + 1)
      for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); v++) {
        for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); u++) {
          const next = v * width + u
          if (data[next] && !labels[next] && (diagonal || u === x || v === y)) {
            labels[next] = part.label
            stack.push(next)
          }
        }
      }
    }
    parts.push(part)
  }
  return { labels, parts }
}

// ---- ink ----

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
  const seen = shrunk(colors, seenAt), { width, height } = seen[0], number = width * height
  const paper = paperOf(seen)
  const apart = seen.map((plane, c) => mapped(plane, (value, i) => value - paper[c].data[i]).data)
  const lengths = planeOf(width, height), lighter = new Float32Array(number), ink = new Float32Array(number)
  for (const values of apart) {
    for (let i = 0; i < number; i++) {
      lengths.data[i] += values[i] * values[i]
      lighter[i] += values[i]
    }
  }
  const distance = blurred(mapped(lengths, Math.sqrt)).data
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

// ---- a page ----

// Colours, the same smaller, and how their pixels lie in the image: zoom, left and top.
function viewOf(colors, zoom = 1, left = 0, top = 0) {
  return { colors, small: shrunk(colors, SMALL), zoom, left, top }
}

function around([left, top, right, bottom], { width, height }) {
  const margin = Math.floor(0.25 * Math.max(right - left, bottom - top))
  return [Math.max(left - margin, 0), Math.max(top - margin, 0), Math.min(right + margin + 1, width), Math.min(bottom + margin + 1, height)]
}

const inImage = ({ zoom, left, top }, box) => box.map((edge, i) => Math.round(zoom * edge + (i % 2 ? top : left)))

// All ink of a view as one digit.
function wholeOf(view, shade, ink) {
  const { colors } = view
  let zoom = sideOf(colors[0]) / sideOf(ink.levels), left = 0, top = 0
  if (zoom > 1) { // the digit may be small on a large sheet: look again, closer
    const rough = inkBox(times(ink.levels, largeParts(inkMask(ink.levels))), 0.1)
    const box = around(rough.map(edge => Math.round(zoom * edge)), colors[0])
    ;[left, top] = box
    const near = colors.map(plane => cropped(plane, box))
    ink = findInk(near, SEEN_AT, { shade })
    zoom = sideOf(near[0]) / sideOf(ink.levels)
  }
  const levels = times(ink.levels, largeParts(inkMask(ink.levels)))
  const box = inkBox(levels, 0.1).map((edge, i) => zoom * edge + (i % 2 ? top : left))
  return { pixels: digitOf(levels), box: inImage(view, box) }
}

// The ways to take an image, the plainest first: {lines, cost}.
function layouts(view) {
  const found = ofView(view, 0), tidy = found.length === 1
  panels(view).forEach((panel, i) => found.push(...ofView(panel, i - 0.7)))
  const unlined = !tidy || isWide(found[0]) ? withoutLines(view) : null
  if (unlined) found.push(...ofView(unlined.view, unlined.cost))
  if (!tidy) found.push(...ofView(flattened(view), 0.5))
  if (!found.length) throw new UnreadableError(NOTHING)
  return found
}

function isWide({ lines }) {
  const [left, top, right, bottom] = lines[0][0].box
  return right - left > 0.7 * (bottom - top)
}

// The layouts of one view: everything as one digit, and what is left after tidying.
function ofView(view, cost) {
  const found = [], shades = [0]
  while (shades.length) {
    const shade = shades.shift()
    let ink, digit
    try {
      ink = findInk(view.small, SEEN_AT, { shade })
      digit = wholeOf(view, shade, ink)
    } catch (error) {
      if (!(error instanceof UnreadableError)) throw error
      if (!shade) shades.push(-1, 1)
      continue
    }
    if (ink.both && !shade) shades.push(-1, 1)
    const plain = { lines: [[digit]], cost }
    found.push(plain)
    let parted = partsOf(ink.levels), lines = digitsAmong(parted)
    if (isTidy(lines, parted) && !isWide(plain)) continue
    if (sideOf(view.colors[0]) > SEEN_AT) { // look at it closer
      try {
        const many = lines.flat().length > 3
        parted = partsOf(findInk(view.small, many ? 2 * PAGE_AT : PAGE_AT, { shade }).levels)
        lines = digitsAmong(parted)
      } catch (error) {
        if (!(error instanceof UnreadableError)) throw error
      }
    }
    if (!isTidy(lines, parted) && lines.flat().length <= MAX_DIGITS) {
      found.push({ lines: lines.map(line => line.map(group => taken(view, parted, group))), cost })
    }
  }
  return found
}

// The ink of a group of parts.
function maskOf({ labels, mask }, group) {
  const own = new Set(group.map(part => part.label))
  return mapped(mask, (value, i) => (value && own.has(labels[i]) ? 1 : 0))
}

// Whether there is at most one digit, and it is all that the plain reading takes.
function isTidy(lines, parted) {
  if (!lines.length) return true
  if (lines.flat().length > 1) return false
  const ink = mapped(parted.levels, value => +(value > 0.3)), large = largeParts(ink)
  const near = dilated(maskOf(parted, lines[0][0]))
  return !ink.data.some((value, i) => value && large.data[i] && !near.data[i])
}

// The digit of a group of parts, seen closer if the page was shrunk.
function taken(view, parted, group) {
  const { levels } = parted, zoom = sideOf(view.colors[0]) / sideOf(levels), near = dilated(maskOf(parted, group))
  const box = extentOf(group).map(edge => Math.round(zoom * edge))
  let pixels = times(levels, near)
  if (zoom > 1) {
    const crop = around(box, view.colors[0])
    try {
      const closer = findInk(view.colors.map(plane => cropped(plane, crop)), SEEN_AT).levels
      const step = Math.max(crop[2] - crop[0], crop[3] - crop[1]) / sideOf(closer) / zoom
      const seen = mapped(closer, (value, i) => {
        const x = Math.round(step * (i % closer.width) + crop[0] / zoom)
        const y = Math.round(step * Math.floor(i / closer.width) + crop[1] / zoom)
        return x < near.width && y < near.height ? value * near.data[y * near.width + x] : 0
      })
      if (seen.data.some(value => value > 0.5)) pixels = seen
    } catch (error) {
      if (!(error instanceof UnreadableError)) throw error // too little paper around it
    }
  }
  return { pixels: digitOf(pixels), box: inImage(view, box) }
}

const extentOf = group => [
  Math.min(...group.map(part => part.left)), Math.min(...group.map(part => part.top)),
  Math.max(...group.map(part => part.right)), Math.max(...group.map(part => part.bottom)),
]

// Ink -> its connected parts, without specks, the largest first.
function partsOf(levels) {
  const mask = inkMask(levels), reach = Math.floor(sideOf(levels) / 100) // a gap that is no gap
  const { labels, parts } = labelled(reach ? dilated(mask, reach) : mask), { width } = mask
  for (const part of parts) Object.assign(part, { area: 0, left: width, top: mask.height, right: 0, bottom: 0 })
  for (let i = 0, y = 0; y < mask.height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!mask.data[i]) continue
      const part = parts[labels[i] - 1]
      part.area++
      part.left = Math.min(part.left, x)
      part.right = Math.max(part.right, x + 1)
      part.top = Math.min(part.top, y)
      part.bottom = Math.max(part.bottom, y + 1)
    }
  }
  parts.sort((a, b) => b.area - a.area)
  const least = parts.length ? Math.max(parts[0].area / 200, 3) : 0
  const large = parts.slice(0, MAX_PARTS).filter(part => part.area >= least)
  for (const part of large) {
    part.width = part.right - part.left
    part.height = part.bottom - part.top
  }
  return { levels, mask, labels, parts: large }
}

// Parts of a page -> lines of digits, each a group of parts; digits_among() of page.py.
function digitsAmong({ parts, mask, labels }) {
  if (!parts.length) return []
  const { width, height } = mask, most = (numbers, of) => numbers.reduce((a, b) => (of(b) > of(a) ? b : a))
  const outside = parts.filter(part => !parts.some(other => encloses(part, other)))
  const loose = outside.length ? outside : parts
  const atBorder = part => part.left <= 0 || part.top <= 0 || part.right >= width || part.bottom >= height
  const stroke = part => !isLine(part) && !isBlob(part)
  let good = loose.filter(part => !atBorder(part) && stroke(part))
  if (!good.length) good = loose.filter(stroke)
  if (!good.length) good = loose
  const main = most(good, part => part.area * part.height)
  const fit = loose.filter(part => 0.45 * main.height <= part.height && part.height <= 2.2 * main.height)
  const tall = fit.filter(part => good.includes(part))
  const cut = fit.filter(part => atBorder(part) && !isLine(part) && !alongBorder(part, mask, labels))
  // More than a neighbour or two: the page was cropped to its ink.
  if (cut.length > tall.length) tall.push(...cut.filter(part => !tall.includes(part)))
  let groups = []
  for (const part of [...tall].sort((a, b) => a.left - b.left)) {
    const near = groups.filter(group => group.some(other => isStacked(part, other)))
    groups = groups.filter(group => !near.includes(group))
    groups.push([part, ...near.flat()])
  }
  for (const part of loose) {
    if (tall.includes(part) || (atBorder(part) && !good.includes(part)) || part.height > main.height) continue
    const gapTo = group => Math.min(...group.map(other => gapOf(part, other)))
    const nearest = most(groups, group => -gapTo(group))
    const underline = isLine(part) && part.width > 1.1 * Math.max(...nearest.map(other => other.width))
    if (!underline && gapTo(nearest) <= 0.2 * main.height) nearest.push(part)
  }
  return linesOf(groups)
}

function linesOf(groups) {
  const boxes = new Map(groups.map(group => [group, extentOf(group)])), lines = []
  const middle = group => (boxes.get(group)[1] + boxes.get(group)[3]) / 2
  const usual = quantile(groups.map(group => boxes.get(group)[3] - boxes.get(group)[1]), 0.5)
  for (const group of [...groups].sort((a, b) => middle(a) - middle(b))) {
    const line = lines[lines.length - 1]
    const mean = line && line.reduce((sum, one) => sum + middle(one), 0) / line.length
    if (line && middle(group) - mean < 0.7 * usual) line.push(group)
    else lines.push([group])
  }
  return lines.map(line => line.sort((a, b) => boxes.get(a)[0] - boxes.get(b)[0]))
}

const encloses = (part, other) =>
  other !== part && other.height >= 0.2 * part.height && part.left < other.left && part.top < other.top &&
  part.right > other.right && part.bottom > other.bottom

// Long, thin and straight, and not upright, as a 1 is.
const isLine = ({ width, height }) => width >= 6 * height || height >= 12 * width

// Filled, and no stroke.
const isBlob = ({ area, width, height }) => area > 0.7 * width * height && height < 2 * width

// Whether a part lies along the image's border rather than being cut by it.
function alongBorder({ label, width, height }, mask, labels) {
  const edges = [0, 0, 0, 0]
  mask.data.forEach((value, i) => {
    if (!value || labels[i] !== label) return
    const x = i % mask.width, y = Math.floor(i / mask.width)
    edges[0] += y === 0
    edges[1] += y === mask.height - 1
    edges[2] += x === 0
    edges[3] += x === mask.width - 1
  })
  return Math.max(...edges) > 0.5 * Math.max(width, height)
}

// Whether two tall parts stand above each other, near enough for one digit.
function isStacked(a, b) {
  const overlap = Math.min(a.right, b.right) - Math.max(a.left, b.left)
  const gap = Math.max(a.top, b.top) - Math.min(a.bottom, b.bottom)
  return overlap > 0.4 * Math.min(a.width, b.width) && gap < 0.2 * Math.max(a.height, b.height)
}

const gapOf = (a, b) => Math.hypot(
  Math.max(Math.max(a.left, b.left) - Math.min(a.right, b.right), 0),
  Math.max(Math.max(a.top, b.top) - Math.min(a.bottom, b.bottom), 0),
)

// ---- the likeliest way ----

function readAll(reader, digits) {
  return digits.map(digit => ({ ...digit, ...reader.read(digit.pixels, 1)[0] }))
}

// The lines of the layout whose least sure digit is the surest, as in reading.py.
function likeliest(reader, found) {
  const ways = []
  for (const { lines, cost } of found) {
    const rows = lines.map(line => readAll(reader, line)), fewer = withoutDoubtful(rows)
    ways.push({ rows, cost })
    if (fewer.length) ways.push({ rows: fewer, cost: cost + 0.5 })
  }
  const worth = ({ rows, cost }) => Math.log(Math.min(...rows.flat().map(digit => digit.sureness)) + DOUBTFUL) - cost
  const { rows } = ways.reduce((best, way) => (worth(way) > worth(best) ? way : best))
  const [first] = rows[0]
  return first.sureness < UPRIGHT && rows.flat().length === 1 ? [[turned(reader, first)]] : rows
}

// Rows without what is hardly a digit beside what surely is.
function withoutDoubtful(rows) {
  const rest = rows.map(row => row.filter(digit => digit.sureness > DOUBTFUL)).filter(row => row.length)
  const some = rest.flat()
  if (!some.length || some.length === rows.flat().length) return []
  return Math.min(...some.map(digit => digit.sureness)) < SURE ? [] : rest
}

// A digit turned by a quarter, if it is clearly one then, else as it was.
function turned(reader, digit) {
  const left = digit.pixels.map((_, i) => digit.pixels[(i % 28) * 28 + 27 - Math.floor(i / 28)])
  const ways = readAll(reader, [left, left.slice()].map((pixels, i) => {
    if (i) pixels.reverse()
    return { pixels, box: digit.box }
  }))
  const best = ways[0].sureness >= ways[1].sureness ? ways[0] : ways[1]
  return best.sureness > TURNED ? best : digit
}

// ---- photos: sheets, lines and shadows ----

// Sheets on a desk and insides of frames: what is evenly coloured, large and has ink in it.
function panels() {
  return []
}

function withoutLines() {
  return null
}

// A view without what is wide on it, as shadows and desks are: less its local median.
function flattened(view) {
  const seen = shrunk(view.small, 2 * SEEN_AT), { width, height } = seen[0]
  const small = shrunk(seen, 32), { width: w, height: h } = small[0], reach = Math.max(w, h) >> 2
  const colors = seen.map((plane, c) => {
    const ground = mapped(small[c], (_, i) => {
      const near = [], x = i % w, y = Math.floor(i / w)
      for (let v = y - reach; v <= y + reach; v++) {
        const row = Math.min(Math.max(v, 0), h - 1) * w
        for (let u = x - reach; u <= x + reach; u++) near.push(small[c].data[row + Math.min(Math.max(u, 0), w - 1)])
      }
      return quantile(near, 0.5)
    })
    const wide = resized(ground, width, height, true)
    return mapped(plane, (value, i) => Math.min(Math.max(160 / 255 + value - wide.data[i], 0), 1))
  })
  const zoom = sideOf(view.colors[0]) / sideOf(seen[0])
  return viewOf(colors, view.zoom * zoom, view.left, view.top)
}

return { prepare, asMnist }
})()
