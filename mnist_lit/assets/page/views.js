// The ways to look at a photo: a sheet on it by itself, without lines, without shadows; of views.py.
//
// Sheets are cut out but not straightened, and lines are painted over from what is beside them.
"use strict"

const SMALL = 512, PAGE_AT = 256 // pixels of the longer side: to find digits, to search for lines
const MOST_PANELS = 3 // sheets or frames that are looked at

// Colours, the same smaller, and how their pixels lie in the image: zoom, left and top.
function viewOf(colors, zoom = 1, left = 0, top = 0) {
  return { colors, small: reduced(colors, SMALL), zoom, left, top }
}

// Sheets on a desk and insides of frames: what is evenly coloured, large and has ink in it. They are
// cut out, and what is around them takes their colour.
function panels(view) {
  const size = sideOf(view.colors[0])
  if (Math.min(view.colors[0].width, view.colors[0].height) < 100) return []
  const seen = reduced(view.small, 200), smooth = seen.map(smoothed), { width, height } = seen[0]
  const steep = planeOf(width, height)
  for (const plane of smooth) {
    const high = dilated(plane).data, low = dilated(mapped(plane, value => 1 - value)).data
    for (let i = 0; i < high.length; i++) steep.data[i] = Math.max(steep.data[i], high[i] + low[i] - 1)
  }
  const least = Math.max(0.045, 3 * quantile(steep.data, 0.5)), scale = size / Math.max(width, height)
  const { labels, parts } = labelled(mapped(steep, value => +(value < least)), false), found = []
  for (const part of parts.sort((a, b) => a.area - b.area)) {
    const [across, down] = [part.right - part.left, part.bottom - part.top]
    if (part.area < 0.06 * width * height || Math.min(across / width, down / height) < 0.2) continue
    if (across >= width - 2 && down >= height - 2) continue
    const region = mapped(steep, (_, i) => +(labels[i] === part.label)), inside = filled(region)
    if (hasContent(region, inside) && isGround(smooth, region, inside)) found.push(panelOf(view, inside, scale))
  }
  return found.slice(0, MOST_PANELS)
}

// A region with what lies between its pixels, from left to right and from top to bottom.
function filled(region) {
  const between = plane => {
    const result = planeOf(plane.width, plane.height)
    for (let y = 0; y < plane.height; y++) {
      const row = plane.data.subarray(y * plane.width, (y + 1) * plane.width), first = row.indexOf(1)
      if (first >= 0) result.data.fill(1, y * plane.width + first, y * plane.width + row.lastIndexOf(1) + 1)
    }
    return result
  }
  return times(between(region), transposed(between(transposed(region))))
}

function transposed(plane) {
  const { width, height, data } = plane
  return mapped(planeOf(height, width), (_, i) => data[(i % height) * width + Math.floor(i / height)])
}

const without = (a, b) => mapped(a, (value, i) => +(value > 0 && !b.data[i]))
const eroded = (mask, reach) => without(mask, dilated(mapped(mask, value => +!value), reach))

// Whether something of fair size lies in a region that surrounds it.
function hasContent(region, inside) {
  const { labels, parts } = labelled(without(inside, region)), edge = without(inside, eroded(inside, 2))
  const touching = new Set()
  edge.data.forEach((value, i) => { if (value) touching.add(labels[i]) })
  const [, top, , bottom] = maskBox(inside)
  return parts.some(part => !touching.has(part.label) && part.bottom - part.top >= 0.12 * (bottom - top))
}

// Whether a region is paper: a rectangle, or of the colour that is all around its outline. Else it may
// be a thick stroke, a 0 for example, with paper in it.
function isGround(smooth, region, inside) {
  const points = []
  inside.data.forEach((value, i) => { if (value) points.push([i % inside.width, Math.floor(i / inside.width)]) })
  let around = Infinity
  for (let degrees = 0; degrees < 90; degrees += 3) {
    const [cos, sin] = [Math.cos, Math.sin].map(of => of((degrees * Math.PI) / 180))
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity]
    for (const [x, y] of points) {
      const [u, v] = [x * cos + y * sin, y * cos - x * sin]
      left = Math.min(left, u)
      right = Math.max(right, u)
      top = Math.min(top, v)
      bottom = Math.max(bottom, v)
    }
    around = Math.min(around, (right - left + 1) * (bottom - top + 1))
  }
  if (points.length > 0.88 * around) return true
  const outside = without(dilated(inside, Math.floor(sideOf(region) / 12)), inside)
  const median = (plane, mask) => quantile(plane.data.filter((_, i) => mask.data[i]), 0.5)
  if (!maskBox(outside)) return false
  return smooth.every(plane => Math.abs(median(plane, outside) - median(plane, region)) < 0.1)
}

function panelOf(view, inside, scale) {
  const inner = eroded(inside, 2), whole = view.colors[0]
  const found = (maskBox(inner) || maskBox(inside)).map(edge => Math.round(edge * scale))
  const box = [found[0], found[1], Math.min(found[2], whole.width), Math.min(found[3], whole.height)]
  const { width } = inner, colors = view.colors.map(plane => cropped(plane, box)), across = colors[0].width
  const isInner = i => {
    const x = Math.floor((box[0] + (i % across)) / scale), y = Math.floor((box[1] + Math.floor(i / across)) / scale)
    return inner.data[Math.min(y, inner.height - 1) * width + Math.min(x, width - 1)]
  }
  const painted = colors.map(plane => {
    const ground = quantile(plane.data.filter((_, i) => isInner(i)), 0.5) // paper, unless it is all ink
    return mapped(plane, (value, i) => (isInner(i) ? value : ground))
  })
  return viewOf(painted, view.zoom, view.left + view.zoom * box[0], view.top + view.zoom * box[1])
}

// A view with its straight lines painted over, and what that costs; null if it has none.
function withoutLines(view) {
  const seen = reduced(view.small, PAGE_AT)
  let mask
  try {
    mask = mapped(findInk(seen, PAGE_AT, { uneven: true }).levels, value => +(value > 0.2))
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error
    return null
  }
  const across = linesAcross(mask), down = linesAcross(transposed(mask)).map(transposed)
  const found = [...across, ...down]
  if (!found.length) return null
  const lines = found.reduce((a, b) => mapped(a, (value, i) => Math.max(value, b.data[i])))
  // One of each that end in the image are the strokes of a wide 4.
  if (across.length === 1 && down.length === 1 && endInside(lines)) return null
  const zoom = sideOf(view.colors[0]) / sideOf(seen[0]), wide = dilated(lines)
  const painted = seen.map(plane => paintedOver(plane, wide))
  // One line may as well be the stroke of a digit that fills the image.
  return { view: viewOf(painted, view.zoom * zoom, view.left, view.top), cost: found.length > 1 ? 0 : 0.5 }
}

// Whether no line reaches the edge of the image.
function endInside(lines) {
  const [left, top, right, bottom] = maskBox(lines), { width, height } = lines
  return left > 1 && top > 1 && right < width - 1 && bottom < height - 1
}

// Calls `visit` with start and end of each run of `value` in a row.
function eachRun(row, value, visit) {
  for (let x = 0, start = 0; x <= row.length; x++) {
    if (x < row.length && row[x] === value) continue
    if (x > start) visit(start, x)
    start = x + 1
  }
}

// A mask of each thin line that runs over most of the width.
function linesAcross(mask) {
  const { width, height } = mask, thick = planeOf(width, height), runs = planeOf(width, height)
  spread(mask.data, thick.data, height, width, width, 1, 1)
  const least = Math.max(Math.floor(width / 5), 3), gap = Math.floor(width / 4)
  const rowsOf = plane => Array.from({ length: height }, (_, y) => plane.data.subarray(y * width, (y + 1) * width))
  const to = rowsOf(runs)
  rowsOf(thick).forEach((row, y) => eachRun(row, 1, (start, end) => { if (end - start >= least) to[y].fill(1, start, end) }))
  const joined = mapped(runs, value => value)
  rowsOf(joined).forEach(row => eachRun(row.slice(), 0, (start, end) => {
    if (start && end < width && end - start < gap) row.fill(1, start, end)
  }))
  const { labels, parts } = labelled(joined)
  return parts.filter(part => part.right - part.left >= 0.75 * width && part.bottom - part.top < 0.2 * height)
    .map(part => ({ part, line: mapped(runs, (value, i) => +(value > 0 && labels[i] === part.label)) }))
    .filter(({ part, line }) => line.data.reduce((sum, value) => sum + value, 0) <= (0.08 * height + 3) * (part.right - part.left))
    .map(({ line }) => line)
}

// What is masked takes the mean of the next pixels in four directions, by their nearness.
function paintedOver(plane, mask) {
  const { width, height, data } = plane
  return mapped(plane, (own, i) => {
    if (!mask.data[i]) return own
    const x = i % width, y = Math.floor(i / width)
    let sum = 0, weights = 0
    for (const [right, down] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      let [u, v, far] = [x, y, 0]
      while (u >= 0 && v >= 0 && u < width && v < height && mask.data[v * width + u]) {
        u += right
        v += down
        far++
      }
      if (u < 0 || v < 0 || u >= width || v >= height) continue
      sum += data[v * width + u] / far ** 2
      weights += 1 / far ** 2
    }
    return weights ? sum / weights : own
  })
}

// A view without what is wide on it, as shadows and desks are: less its local median.
function flattened(view) {
  const seen = reduced(view.small, 2 * SEEN_AT), { width, height } = seen[0]
  const small = reduced(seen, 32), { width: w, height: h } = small[0], reach = Math.max(w, h) >> 2
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
