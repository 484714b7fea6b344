// A photo -> what stands on it: of several ways to take it, that whose digits are likeliest.
//
// The way of page.py and reading.py.
"use strict"

const MAX_DIGITS = 60 // on a page; with more it is text or a picture
const DOUBTFUL = 0.05, SURE = 0.5, UPRIGHT = 0.5, TURNED = 0.95, WHOLE = 0.1, PARTS = 0.9 // as in reading.py

// {width, height, data: RGBA} -> {lines: [[{pixels, box}]]}, each digit with what `reader`, a
// DigitReader, says of it. Without a reader the plainest way is taken.
function prepare(image, { reader = null } = {}) {
  const ways = layouts(viewOf(planesOf(image)))
  return { lines: reader ? likeliest(reader, ways) : ways[0].lines }
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
    let parts = partsOf(ink.levels), lines = digitsAmong(parts)
    if (lines.flat().length === 1) digit.ways = waysOf(view, parts, lines[0][0])
    if (isTidy(lines, parts) && !isWide(plain)) continue
    if (sideOf(view.colors[0]) > SEEN_AT) { // look at it closer
      try {
        const many = lines.flat().length > 3
        parts = partsOf(findInk(view.small, many ? 2 * PAGE_AT : PAGE_AT, { shade }).levels)
        lines = digitsAmong(parts)
      } catch (error) {
        if (!(error instanceof UnreadableError)) throw error
      }
    }
    if (isTidy(lines, parts) || lines.flat().length > MAX_DIGITS) continue
    const digitOfGroup = group => ({ ...taken(view, parts.levels, maskOf(parts, group)), ways: waysOf(view, parts, group) })
    found.push({ lines: lines.map(line => line.map(digitOfGroup)), cost })
  }
  return found
}

// Whether there is at most one digit, and it is all that the plain reading takes.
function isTidy(lines, parts) {
  if (!lines.length) return true
  if (lines.flat().length > 1) return false
  const ink = mapped(parts.levels, value => +(value > 0.3)), large = largeParts(ink)
  const near = dilated(maskOf(parts, lines[0][0]))
  return !ink.data.some((value, i) => value && large.data[i] && !near.data[i])
}

// The digit whose ink is `mask`, seen closer if the page was reduced.
function taken(view, levels, mask) {
  const zoom = sideOf(view.colors[0]) / sideOf(levels), near = dilated(mask)
  const box = maskBox(mask).map(edge => Math.round(zoom * edge))
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

// How to find the ways to cut what may be digits that touch: lazily, because few are cut.
function waysOf(view, parts, group) {
  return () => {
    const mask = maskOf(parts, group)
    const masks = mayBeTwo(mask) ? cuts(mask, parts.levels) : []
    return masks.map(way => way.map(part => taken(view, parts.levels, part)))
  }
}

const surenessOf = digits => Math.min(...digits.map(digit => digit.sureness))

function readAll(reader, digits) {
  return digits.map(({ pixels, box }) => ({ pixels, box, ...reader.read(pixels, 1)[0] }))
}

// A line read, each digit as it is, or cut, if it is hardly a digit and its parts surely are.
function readLine(reader, line) {
  return readAll(reader, line).flatMap((digit, i) => {
    if (digit.sureness >= WHOLE || !line[i].ways) return [digit]
    const ways = line[i].ways().map(way => readAll(reader, way))
    const best = ways.reduce((a, b) => (surenessOf(b) > surenessOf(a) ? b : a), [digit])
    return surenessOf(best) > PARTS ? best : [digit]
  })
}

// The lines of the layout whose least sure digit is the surest, as in reading.py.
function likeliest(reader, found) {
  const ways = []
  for (const { lines, cost } of found) {
    const rows = lines.map(line => readLine(reader, line)), fewer = withoutDoubtful(rows)
    ways.push({ rows, cost })
    if (fewer.length) ways.push({ rows: fewer, cost: cost + 0.5 })
  }
  const worth = ({ rows, cost }) => {
    const least = surenessOf(rows.flat())
    return Math.log(least + DOUBTFUL) + (least > SURE ? Math.log(rows.flat().length) : 0) - cost
  }
  const { rows } = ways.reduce((best, way) => (worth(way) > worth(best) ? way : best))
  const [first] = rows[0]
  return first.sureness < UPRIGHT && rows.flat().length === 1 ? [[turned(reader, first)]] : rows
}

// Rows without what is hardly a digit beside what surely is.
function withoutDoubtful(rows) {
  const rest = rows.map(row => row.filter(digit => digit.sureness > DOUBTFUL)).filter(row => row.length)
  const some = rest.flat()
  if (!some.length || some.length === rows.flat().length) return []
  return surenessOf(some) < SURE ? [] : rest
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
