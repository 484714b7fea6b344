// Planes of numbers: {width, height, data}, data row by row. What OpenCV and Pillow do for Python.
"use strict"

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
function reduced(colors, side) {
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
function smoothed({ width, height, data }) {
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
function maskBox({ width, height, data }, least = 0) {
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
