// What was drawn, as paths: which strokes are one digit, and a digit's picture. Knows no page.
//
// A stroke is {width, points: [[x, y], ...]} in units of the pad, and is never changed, so that to
// undo is to take what was before. The network gets each digit drawn anew, large, with a pen in
// proportion to it: a small digit under a broad pen is a blob to the eye, but its path is not.

const PAD = { width: 400, height: 300 } // units
const STEP = 3 // between the points of a stroke, at most
const SIDE = 128 // pixels of a digit's picture: what predict looks at without shrinking it
const MARGIN = 14
const PEN = 1 / 8 // of the longer side: MNIST's strokes have 2.5 of 20 pixels
const DOT = 5 // units: what is smaller has no shape
// Ways to group, with what each must be surer by, in logarithms: strokes that stand above each
// other, and those whose paths come so near (of the height); the plainest first.
const GROUPINGS = [
  { stacked: true, near: 0.07, cost: 0 },
  { stacked: true, near: -1, cost: 0.2 },
  { stacked: false, near: 0.07, cost: 0.2 },
  { stacked: true, near: 0.22, cost: 0.7 },
]

// A path with one more point, and others between where it is far.
function extended(points, [x, y]) {
  if (!points.length) return [[x, y]]
  const [fromX, fromY] = points[points.length - 1]
  const steps = Math.ceil(Math.hypot(x - fromX, y - fromY) / STEP)
  const added = []
  for (let i = 1; i <= steps; i++) {
    added.push([fromX + ((x - fromX) * i) / steps, fromY + ((y - fromY) * i) / steps])
  }
  return points.concat(added)
}

// Strokes without what lies within `radius` of a point: some shorter, some in two pieces.
function erased(strokes, [x, y], radius) {
  return strokes.flatMap((stroke) => {
    const pieces = [[]]
    for (const point of stroke.points) {
      if (Math.hypot(point[0] - x, point[1] - y) > radius) pieces[pieces.length - 1].push(point)
      else if (pieces[pieces.length - 1].length) pieces.push([])
    }
    if (pieces[0].length === stroke.points.length) return [stroke]
    const long = pieces.filter((points) => points.length > 1)
    return long.map((points) => ({ width: stroke.width, points }))
  })
}

function boxOf(strokes) {
  const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity }
  for (const { points } of strokes) {
    for (const [x, y] of points) {
      box.left = Math.min(box.left, x)
      box.top = Math.min(box.top, y)
      box.right = Math.max(box.right, x)
      box.bottom = Math.max(box.bottom, y)
    }
  }
  return box
}

const heightOf = (box) => box.bottom - box.top
const widthOf = (box) => box.right - box.left

// The ways in which strokes may be digits: [{lines: [[strokes of a digit]], cost}].
function groupings(strokes) {
  const seen = new Set()
  const ways = []
  const items = strokes.map((stroke) => ({ stroke, box: boxOf([stroke]) }))
  const apart = distances(items)
  for (const how of GROUPINGS) {
    const group = items.map((_, i) => i)
    for (let a = 0; a < items.length; a++) {
      for (let b = 0; b < a; b++) {
        if (group[a] === group[b] || !together(items[a].box, items[b].box, apart[a][b], how)) continue
        const [from, to] = [group[a], group[b]]
        group.forEach((g, i) => { if (g === from) group[i] = to })
      }
    }
    if (seen.has(group.join())) continue
    seen.add(group.join())
    const digits = [...new Set(group)].map((g) => strokes.filter((_, i) => group[i] === g))
    ways.push({ lines: inLines(withoutSpecks(digits)), cost: how.cost })
  }
  return ways
}

// Between each two paths, in units.
function distances(items) {
  return items.map(({ stroke: a }, i) => items.slice(0, i).map(({ stroke: b }) => {
    let least = Infinity
    for (let p = 0; p < a.points.length; p += 2) {
      for (let q = 0; q < b.points.length; q += 2) {
        const [x, y] = [a.points[p][0] - b.points[q][0], a.points[p][1] - b.points[q][1]]
        least = Math.min(least, x * x + y * y)
      }
    }
    return Math.sqrt(least)
  }))
}

function together(a, b, apart, { stacked, near }) {
  const height = Math.max(heightOf(a), heightOf(b), widthOf(a) / 2, widthOf(b) / 2, 1)
  if (apart <= near * height) return true
  const room = 0.04 * height // a path has no width; a pen has
  const overlap = Math.min(a.right, b.right) - Math.max(a.left, b.left) + 2 * room
  const gap = Math.max(a.top, b.top) - Math.min(a.bottom, b.bottom)
  return stacked && overlap > 0.4 * (Math.min(widthOf(a), widthOf(b)) + 2 * room) && gap < 0.2 * height
}

// Without what is far smaller than the largest: a tap, a slip of the pen.
function withoutSpecks(digits) {
  const size = (strokes) => Math.max(heightOf(boxOf(strokes)), widthOf(boxOf(strokes)))
  const most = Math.max(...digits.map(size))
  return digits.filter((strokes) => size(strokes) >= 0.25 * most)
}

// Digits -> from top to bottom in lines, each from left to right.
function inLines(digits) {
  const items = digits.map((strokes) => ({ strokes, box: boxOf(strokes) }))
  const middle = (item) => (item.box.top + item.box.bottom) / 2
  const heights = items.map((item) => heightOf(item.box)).sort((a, b) => a - b)
  const usual = Math.max(heights[heights.length >> 1], 20)
  const lines = []
  for (const item of items.sort((a, b) => middle(a) - middle(b))) {
    const line = lines[lines.length - 1]
    const mean = line && line.reduce((sum, other) => sum + middle(other), 0) / line.length
    if (line && middle(item) - mean < 0.7 * usual) line.push(item)
    else lines.push([item])
  }
  return lines.map((line) => line.sort((a, b) => a.box.left - b.box.left).map((item) => item.strokes))
}

// A digit drawn anew: Float32Array(SIDE * SIDE), 0 on paper and 1 in a stroke.
function picture(strokes) {
  const box = boxOf(strokes)
  const size = Math.max(widthOf(box), heightOf(box))
  const pen = size < DOT ? 2 * DOT : (size * PEN) / (1 - PEN)
  const scale = (SIDE - 2 * MARGIN) / Math.max(size + pen, 4 * DOT)
  const radius = (scale * pen) / 2
  const at = ([x, y]) => [
    SIDE / 2 + scale * (x - (box.left + box.right) / 2),
    SIDE / 2 + scale * (y - (box.top + box.bottom) / 2),
  ]
  const levels = new Float32Array(SIDE * SIDE)
  for (const { points } of strokes) {
    let from = at(points[0])
    for (const point of points.length > 1 ? points.slice(1) : points) {
      const to = at(point)
      line(levels, from, to, radius)
      from = to
    }
  }
  return levels
}

// Darkens what lies within `radius` of a line, softly at its edge.
function line(levels, [fromX, fromY], [toX, toY], radius) {
  const acrossX = toX - fromX, acrossY = toY - fromY
  const length = acrossX * acrossX + acrossY * acrossY || 1
  const [reach, most] = [radius + 1, SIDE - 1]
  const right = Math.min(most, Math.ceil(Math.max(fromX, toX) + reach))
  const bottom = Math.min(most, Math.ceil(Math.max(fromY, toY) + reach))
  for (let y = Math.max(0, Math.floor(Math.min(fromY, toY) - reach)); y <= bottom; y++) {
    for (let x = Math.max(0, Math.floor(Math.min(fromX, toX) - reach)); x <= right; x++) {
      const ownX = x + 0.5 - fromX, ownY = y + 0.5 - fromY
      const along = Math.min(1, Math.max(0, (ownX * acrossX + ownY * acrossY) / length))
      const awayX = ownX - along * acrossX, awayY = ownY - along * acrossY
      const level = Math.min(1, radius + 0.5 - Math.sqrt(awayX * awayX + awayY * awayY))
      if (level > levels[y * SIDE + x]) levels[y * SIDE + x] = level
    }
  }
}
