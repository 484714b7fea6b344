// Which connected parts of the ink are digits, and in which lines they stand: the way of page.py.
"use strict"

const MAX_PARTS = 150 // the largest, of which one looks for digits

// The ink of a group of parts.
function maskOf({ labels, mask }, group) {
  const own = new Set(group.map(part => part.label))
  return mapped(mask, (value, i) => (value && own.has(labels[i]) ? 1 : 0))
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
  let loose = outside.length ? outside : parts
  const atBorder = part => part.left <= 0 || part.top <= 0 || part.right >= width || part.bottom >= height
  const stroke = part => !isLine(part) && !isBlob(part)
  let good = loose.filter(part => !atBorder(part) && stroke(part))
  if (!good.length) good = loose.filter(stroke)
  if (!good.length) good = loose
  // As the side of a frame around a smudged digit is.
  if (good.every(isStick)) good = [...good, ...loose.filter(part => isBlob(part) && !atBorder(part))]
  const digits = good.filter(part => !isStick(part))
  const main = most(digits.length ? digits : good, part => part.area * part.height)
  const sideOfFrame = part => {
    const middle = (part.left + part.width / 2) / width
    const uneven = Math.max(Math.abs(main.top - part.top), Math.abs(part.bottom - main.bottom)) > 0.15 * main.height
    return isStick(part) && !isStick(main) && !(0.15 < middle && middle < 0.85) && uneven
  }
  loose = loose.filter(part => !sideOfFrame(part))
  const fit = loose.filter(part => 0.45 * main.height <= part.height && part.height <= 2.2 * main.height)
  const tall = fit.filter(part => good.includes(part))
  let cut = fit.filter(part => atBorder(part) && !isLine(part) && !alongBorder(part, mask, labels))
  const sides = [part => part.left <= 0, part => part.top <= 0, part => part.right >= width, part => part.bottom >= height]
  // More than a neighbour or two, or at three sides: the page was cropped to its ink.
  const cropped = sides.filter(side => fit.some(side)).length >= 3
  if (cropped) cut = fit.filter(part => atBorder(part) && part.height < 1.3 * main.height && !isBlob(part))
  if (cropped || cut.length > tall.length) tall.push(...cut.filter(part => !tall.includes(part)))
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

// A 1, or a side of a frame.
const isStick = ({ width, height }) => height > 4 * width

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
