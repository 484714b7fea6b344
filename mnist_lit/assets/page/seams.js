// Where touching digits part: along a seam of least ink from top to bottom; the way of seams.py.
"use strict"

const WIDE = 0.8 // of the height: what is wider may be two digits
const ZONES = [[0.2, 0.5], [0.35, 0.65], [0.5, 0.8]] // of the width: where a seam may run
const STRAIGHT = 0.02 // the cost of a step aside, of a pixel of ink

function mayBeTwo(mask) {
  const [left, top, right, bottom] = maskBox(mask)
  return right - left > WIDE * (bottom - top)
}

// The mask of what may be several digits -> the ways to cut it, each its parts left to right.
function cuts(mask, levels) {
  const [left, , right] = maskBox(mask), inkOf = part => part.data.reduce((sum, value) => sum + value, 0)
  const ways = []
  for (const zone of ZONES) {
    const [first, last] = zone.map(share => left + Math.round(share * (right - left)))
    if (last - first < 3) continue
    const parts = parted(mask, levels, first, last)
    if (parts.some(part => inkOf(part) <= 0.1 * inkOf(mask))) continue
    ways.push(parts)
    // Three digits: the wider part is cut once more.
    const widths = parts.map(part => maskBox(part)[2] - maskBox(part)[0]), wider = +(widths[1] > widths[0])
    if (!mayBeTwo(parts[wider])) continue
    const [from, , to] = maskBox(parts[wider]), third = Math.floor((to - from) / 3)
    const middle = parted(parts[wider], levels, from + third, to - third)
    ways.push([...parts.slice(0, wider), ...middle, ...parts.slice(wider + 1)])
  }
  return ways.filter(way => way.every(part => maskBox(part)))
}

// A mask -> what lies left of the seam of least ink in columns `first` to `last`, and the rest.
function parted(mask, levels, first, last) {
  const { width, height } = mask, across = last - first, came = []
  const inkAt = (x, y) => levels.data[y * width + first + x] * mask.data[y * width + first + x]
  let cost = Array.from({ length: across }, (_, x) => inkAt(x, 0))
  for (let y = 1; y < height; y++) {
    const steps = cost.map((above, x) => [-1, 0, 1].reduce((best, step) => {
      const price = x + step in cost ? cost[x + step] + (step ? STRAIGHT : 0) : Infinity
      return price < best.price ? { step, price } : best
    }, { step: 0, price: Infinity }))
    came.push(steps.map(({ step }) => step))
    cost = steps.map(({ price }, x) => price + inkAt(x, y))
  }
  const seam = [cost.indexOf(Math.min(...cost))]
  for (let y = height - 2; y >= 0; y--) seam.unshift(seam[0] + came[y][seam[0]])
  const isLeft = i => i % width < first + seam[Math.floor(i / width)]
  return [mapped(mask, (value, i) => (isLeft(i) ? value : 0)), mapped(mask, (value, i) => (isLeft(i) ? 0 : value))]
}
