// The page: reads what is on the pad, shows the answer, and takes corrections.

{
  const SETTLED = 700 // ms without a change, after which a screen reader is told
  const DOUBT = 0.05 // as reading.py weighs one way to take a page against another
  const $ = id => document.getElementById(id)
  const percent = p => `${(100 * p).toFixed(1)}\u00a0%`

  const reader = new DigitReader(MODEL)
  const kept = new Corrections()
  const known = new Map() // digits of strokes that were read before
  const numbers = new WeakMap() // of strokes
  const pad = new DrawingPad($("pad"), changed, point => choose(digitNear(point)))
  // What is read: lines of digits, each {pixels, digit, probabilities, sureness, uncertain}, with its
  // `box` on the pad or `imageBox`, and after a correction the name of its `entry`, "7/name.png".
  let lines = []
  let chosen = null // the digit that is looked at, if one was chosen
  let opening = 0 // the number of the photo that is being read
  let correction = Promise.resolve() // the one that is being made
  let frame = 0, insideFrame = 0, timer = 0, strokesSeen = 0

  const digits = () => lines.flat()
  const least = () => digits().reduce((one, other) => (other.sureness < one.sureness ? other : one))
  const shown = () => (digits().includes(chosen) ? chosen : least())
  const correctedTo = digit => (kept.has(digit.entry) ? Number(digit.entry[0]) : undefined)
  const labelOf = digit => correctedTo(digit) ?? digit.digit
  const a = label => `${label === 8 ? "an" : "a"} ${label}`
  const doubtful = digit => digit.uncertain && correctedTo(digit) === undefined

  // ---- reading ----

  function changed() {
    opening++ // what is still being opened comes too late
    frame = frame || requestAnimationFrame(() => {
      frame = 0
      lines = pad.state.image ? pad.state.lines : readStrokes(pad.state.strokes)
      show()
    })
  }

  // Of the ways in which strokes may be digits, the one whose least sure digit is surest.
  function readStrokes(strokes) {
    let best = { read: [], worth: -Infinity }
    if (!strokes.length) return best.read
    for (const { lines: groups, cost } of groupings(strokes)) {
      const read = groups.map(line => line.map(readDigit))
      const worth = Math.log(Math.min(...read.flat().map(digit => digit.sureness)) + DOUBT) - cost
      if (worth > best.worth) best = { read, worth }
    }
    return best.read
  }

  function readDigit(strokes) {
    for (const stroke of strokes) if (!numbers.has(stroke)) numbers.set(stroke, ++strokesSeen)
    const key = strokes.map(stroke => numbers.get(stroke)).join()
    if (!known.has(key)) {
      if (known.size > 1000) known.clear()
      const levels = picture(strokes)
      const { left, top, right, bottom } = boxOf(strokes)
      const room = strokes[0].width / 2 + 3
      known.set(key, {
        ...judged(reader, [asMnist(levels, SIDE, SIDE)])[0],
        box: [left - room, top - room, right + room, bottom + room],
        picture: { levels: Uint8Array.from(levels, level => byte(1 - level)), side: SIDE },
      })
    }
    return known.get(key)
  }

  async function open(files) {
    if (!files.length) return
    const number = ++opening
    lines = []
    show("Reading …")
    const state = await readPhoto(reader, files)
    if (number === opening) pad.put(state)
  }

  const samples = SAMPLES.map(sample => [Math.random(), sample]).sort((one, other) => one[0] - other[0])
  function takeSample() {
    samples.push(samples.shift())
    const ink = getComputedStyle($("pad")).getPropertyValue("--rgb").split(",").map(Number)
    pad.put(readSample(reader, samples[0][1], ink))
  }

  // ---- the answer ----

  function choose(digit) {
    chosen = digit
    show()
  }

  function boxOnPad({ box, imageBox }) {
    if (!imageBox) return box
    const { left, top, zoom } = pad.placed()
    return imageBox.map((edge, i) => zoom * edge + (i % 2 ? top : left))
  }

  function digitNear([x, y]) {
    const away = digit => {
      const [left, top, right, bottom] = boxOnPad(digit) || [0, 0, 0, 0]
      return Math.hypot(Math.max(left - x, x - right, 0), Math.max(top - y, y - bottom, 0))
    }
    return digits().reduce((one, other) => (one && away(one) <= away(other) ? one : other), null)
  }

  const bars = [...Array(10).keys()].map(digit => {
    const button = made(made($("bars"), "li"), "button", { type: "button" })
    button.setAttribute("aria-describedby", "correct") // which says what it does
    made(button, "span", { textContent: digit })
    const bar = made(made(button, "i"), "b")
    const text = made(button, "span")
    button.onclick = () => {
      const one = shown()
      correction = correction.then(() => correct(one, digit))
    }
    return { button, bar, text }
  })

  function show(message = pad.state.refused || "") {
    const all = digits()
    const digit = all.length ? shown() : null
    const focused = document.activeElement
    const drawn = !pad.empty && !pad.state.image
    document.body.classList.toggle("idle", !digit)
    $("hint").hidden = !pad.empty
    $("undo").disabled = !pad.past.length
    $("redo").disabled = !pad.future.length
    $("clear").disabled = pad.empty
    $("eraser").disabled = !drawn
    if (!drawn) setErasing(false)
    showNumber(all)
    showVerdict(digit, all, message)
    showSeen(all, digit)
    bars.forEach(({ button, bar, text }, value) => {
      const probability = digit ? digit.probabilities[value] : 0
      bar.style.setProperty("--share", probability)
      text.textContent = digit ? percent(probability) : ""
      button.disabled = !digit
      button.classList.toggle("best", Boolean(digit) && value === labelOf(digit))
      button.setAttribute("aria-pressed", Boolean(digit) && value === correctedTo(digit))
    })
    showCorrection(digit)
    pad.marks = all.length > 1 || (digit && digit.imageBox) ? all.filter(boxOnPad).map(one => markOf(one, one === digit && all.length > 1)) : []
    pad.draw()
    // What is disabled or gone cannot keep the focus: one goes on from the pad.
    if (focused !== document.body && (focused.disabled || !focused.offsetParent)) $("pad").focus({ preventScroll: true })
    cancelAnimationFrame(insideFrame)
    insideFrame = requestAnimationFrame(() => showInside(digit)) // the answer is painted first
    clearTimeout(timer)
    timer = setTimeout(() => { $("status").textContent = spoken(message) }, SETTLED)
  }

  function showNumber(all) {
    $("number").replaceChildren()
    $("number").classList.toggle("long", all.length > 4)
    lines.forEach((line, i) => {
      if (i) $("number").append(" ")
      for (const digit of line) {
        const className = correctedTo(digit) !== undefined ? "corrected" : digit.uncertain ? "unsure" : ""
        made($("number"), "span", { textContent: labelOf(digit), className })
      }
    })
    if (all.some(doubtful)) made($("number"), "span", { className: "mark", textContent: "?" })
  }

  function showVerdict(digit, all, message) {
    const verdict = $("verdict")
    verdict.className = message && message === pad.state.refused ? "wrong" : ""
    verdict.textContent = digit ? "" : message || "The answer appears here."
    if (!digit) return
    if (all.some(doubtful)) made(verdict, "span", { className: "chip", textContent: "not sure" })
    const [first, second] = [...digit.probabilities.entries()].sort((one, other) => other[1] - one[1])
    const place = all.length > 1 ? `Digit ${all.indexOf(digit) + 1}: ` : ""
    const then = second[1] > 0.001 ? `, then ${second[0]} with ${percent(second[1])}` : ""
    verdict.append(`${place}${first[0]} with ${percent(first[1])}${then}. ${pad.state.note || ""}`)
  }

  function showSeen(all, digit) {
    const group = $("seen")
    while (group.children.length > all.length) group.lastChild.remove()
    while (group.children.length < all.length) {
      const i = group.children.length
      const button = made(group, "button", { type: "button" })
      button.append(newCanvas(28, 28))
      button.firstChild.setAttribute("role", "img")
      button.onclick = () => choose(digits()[i])
    }
    all.forEach((one, i) => {
      const button = group.children[i]
      const canvas = button.firstChild
      button.classList.toggle("unsure", Boolean(doubtful(one)))
      button.setAttribute("aria-pressed", one === digit)
      canvas.setAttribute("aria-label", `Digit ${i + 1}, as the network sees it: ${labelOf(one)}${doubtful(one) ? ", not sure" : ""}`)
      if (canvas.shows === one.pixels) return
      canvas.shows = one.pixels
      paint(canvas, one.pixels, value => [byte(value), byte(value), byte(value), 255])
    })
  }

  const markOf = (digit, chosen) => (
    { box: boxOnPad(digit), text: String(labelOf(digit)), unsure: doubtful(digit), chosen })

  function spoken(message) {
    if (!lines.length) return message
    const number = lines.map(line => line.map(labelOf).join("")).join(", ")
    return `Read: ${number}${digits().some(doubtful) ? ", not sure" : ""}`
  }

  function showInside(digit) {
    if (!$("inside").open) return
    $("saliency").hidden = $("maps").hidden = !digit
    if (!digit) return
    $("saliency").querySelector("b").textContent = `the ${digit.digit}`
    const saliency = $("overlay").checked ? reader.saliency(digit.pixels, digit.digit) : null
    paintSaliency($("saliency").firstElementChild, digit.pixels, saliency)
    showMaps($("maps"), reader.maps(digit.pixels))
  }

  // ---- corrections ----

  async function correct(digit, label) {
    const before = correctedTo(digit), { entry } = digit
    try {
      if (before !== label) {
        const { levels, side } = digit.picture || enlarged(digit.pixels)
        digit.entry = await kept.keep(label, levels, side)
      }
      if (before !== undefined) await kept.forget(entry) // the same button again takes it back
      digit.failed = ""
    } catch (error) {
      digit.failed = `Not ${before === label ? "taken back" : "kept"}: ${error.message}`
    }
    show()
  }

  function showCorrection(digit) {
    const failed = digit && digit.failed
    $("correct").className = failed ? "wrong" : ""
    $("correct").textContent = !digit ? "" : failed || (correctedTo(digit) === undefined
      ? "Wrong? Choose the right digit above."
      : `Kept as ${a(labelOf(digit))}. Choose ${labelOf(digit)} again to take it back.`)
    const { length } = kept.names, unstored = kept.own.size
    const count = `${length} correction${length === 1 ? "" : "s"}`
    $("kept").hidden = !length
    $("kept").firstElementChild.textContent = kept.folder ? `${count} in ${kept.folder}.`
      : !unstored ? `${count} in this browser.`
        : `${count}, ${unstored < length ? `${unstored} of them ` : ""}only until this page is closed: the browser ${
          kept.full ? "has no room for more" : "does not let this page store anything"}. Download them.`
    $("download").hidden = $("forget").hidden = Boolean(kept.folder)
  }

  $("download").onclick = () => {
    const url = URL.createObjectURL(new Blob([kept.zipped()], { type: "application/zip" }))
    Object.assign(document.createElement("a"), { href: url, download: "digits.zip" }).click()
    setTimeout(() => URL.revokeObjectURL(url), 10_000)
  }
  $("forget").onclick = () => {
    if (!confirm("Delete all corrections in this browser?")) return
    kept.empty()
    show()
  }

  // ---- tools ----

  $("undo").onclick = () => pad.undo()
  $("redo").onclick = () => pad.redo()
  $("clear").onclick = () => pad.clear()
  $("eraser").onclick = () => setErasing(!pad.erasing)
  function setErasing(erasing) {
    pad.erasing = erasing
    $("eraser").setAttribute("aria-pressed", erasing)
    $("pad").classList.toggle("erasing", erasing)
  }
  $("width").lastElementChild.oninput = event => { pad.width = Number(event.target.value) }
  $("sample").onclick = takeSample
  $("file").onchange = event => {
    open([...event.target.files])
    event.target.value = ""
  }
  addEventListener("keydown", event => {
    const key = event.key.toLowerCase()
    if (key === "escape") {
      pad.clear()
      changed()
    } else if ((event.ctrlKey || event.metaKey) && !event.altKey && (key === "z" || key === "y")) {
      event.preventDefault()
      if (key === "y" || event.shiftKey) pad.redo()
      else pad.undo()
    }
  })
  for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    addEventListener(name, event => {
      event.preventDefault()
      $("sheet").classList.toggle("over", over)
      if (name === "drop") open([...event.dataTransfer.files])
    })
  }
  addEventListener("paste", event => open([...event.clipboardData.files]))
  addEventListener("storage", () => show()) // another tab has kept or deleted corrections
  $("inside").open = matchMedia("(min-width: 1100px)").matches
  $("inside").ontoggle = $("overlay").onchange = () => showInside(digits().length ? shown() : null)
  $("where").textContent = `Nothing leaves this ${SERVER ? "computer" : "page"}.`
  document.querySelector("main").hidden = false
  show()
  if (SERVER) kept.find().then(() => show(), () => {})
}
