// The drawing area: strokes by mouse, finger, pen or keyboard, a photo or sample in their place, and
// the way back. What is drawn is read elsewhere: `changed(drawing)` tells of it, `clicked(point)` of a
// click on what is there.

const PEN_WIDTH = 18 // units, as default
const USUAL = 100 // units: in smaller writing the pen and the eraser are smaller, too
const KEY_STEP = 6 // units that an arrow key moves
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

class DrawingPad {
  // `state` is {strokes} or {image, ...}, whose image (a canvas) lies where strokes would be.
  constructor(canvas, changed, clicked) {
    Object.assign(this, { canvas, changed, clicked, width: PEN_WIDTH, erasing: false })
    Object.assign(this, { state: { strokes: [] }, past: [], future: [], marks: [] })
    Object.assign(this, { pointer: null, last: null, cursor: null, held: new Set() })
    this.context = canvas.getContext("2d")
    canvas.addEventListener("pointerdown", event => this.down(event))
    canvas.addEventListener("pointermove", event => this.move(event))
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(end, event => { if (event.pointerId === this.pointer) this.lift() })
    }
    canvas.addEventListener("contextmenu", event => { if (this.pointer !== null) event.preventDefault() })
    canvas.addEventListener("keydown", event => this.key(event))
    canvas.addEventListener("keyup", event => this.held.delete(event.key))
    canvas.addEventListener("blur", () => {
      this.held.clear()
      if (this.pointer === "key") this.lift()
      this.cursor = null
      this.draw()
    })
    new ResizeObserver(() => this.draw()).observe(canvas)
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw())
  }

  get empty() {
    return !this.state.image && !this.state.strokes.length
  }

  // Follows one pointer until it is lifted: a palm or second finger draws nothing.
  down(event) {
    const pen = event.pointerType === "pen" && event.button === 5 // its other end erases
    if (this.pointer !== null || (event.button !== 0 && !pen)) return
    this.canvas.setPointerCapture(event.pointerId)
    this.cursor = null
    this.begin(event.pointerId, this.at(event), this.erasing || pen)
  }

  move(event) {
    if (event.pointerId !== this.pointer) return
    const steps = event.getCoalescedEvents ? event.getCoalescedEvents() : []
    for (const step of steps.length ? steps : [event]) this.go(this.at(step))
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect()
    return [((event.clientX - box.left) * PAD.width) / box.width, ((event.clientY - box.top) * PAD.height) / box.height]
  }

  // Where something is drawn, a stroke starts only as the pointer moves: until then it may be a click.
  // An image cannot be erased.
  begin(pointer, point, erase) {
    Object.assign(this, { pointer, last: point, erase, started: false })
    if (erase ? !this.state.image : this.empty) this.start(point)
    else this.draw()
  }

  start(point) {
    this.started = true
    this.past.push(this.state)
    this.before = this.future
    this.future = []
    const strokes = this.state.image ? [] : this.state.strokes
    const stroke = { width: this.penFor(strokes), points: [point] }
    this.show({ strokes: this.erase ? erased(strokes, point, this.reach) : [...strokes, stroke] })
  }

  // The width of the pen: that which was chosen, but less in small writing.
  penFor(strokes) {
    const sizes = strokes.map(stroke => boxOf([stroke])).map(box => Math.max(widthOf(box), heightOf(box)))
    const size = Math.max(...sizes)
    return size > DOT ? this.width * Math.min(1, size / USUAL) : this.width
  }

  get reach() {
    return Math.max(this.penFor(this.state.strokes), 6)
  }

  go(point) {
    if (!this.started) {
      const way = Math.hypot(point[0] - this.last[0], point[1] - this.last[1])
      if (this.erase || way <= DOT) return
      this.start(this.last)
    }
    let { strokes } = this.state
    if (this.erase) {
      for (const step of extended([this.last], point)) strokes = erased(strokes, step, this.reach)
    } else {
      const stroke = strokes[strokes.length - 1]
      strokes = [...strokes.slice(0, -1), { ...stroke, points: extended(stroke.points, point) }]
    }
    this.last = point
    this.show({ strokes })
  }

  lift() {
    this.pointer = null
    if (!this.started) {
      this.draw()
      this.clicked(this.last)
      return
    }
    const { strokes } = this.state, before = this.past[this.past.length - 1]
    if (!this.erase) { // only now is it known how large the first digit is
      const stroke = { ...strokes[strokes.length - 1], width: this.penFor(strokes) }
      this.state = { strokes: [...strokes.slice(0, -1), stroke] }
    } else if (before.strokes.length === strokes.length
      && before.strokes.every((stroke, i) => stroke === strokes[i])) {
      this.past.pop() // nothing was erased
      this.future = this.before
    }
    this.draw()
    this.changed(this)
  }

  // With the keyboard: arrows move a cross, the space bar puts the pen down and lifts it.
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    if (event.key === " ") {
      if (this.pointer === "key") this.lift()
      else if (this.pointer === null) {
        this.cursor = this.cursor || [PAD.width / 2, PAD.height / 4]
        this.begin("key", this.cursor, this.erasing)
      }
    } else if (ARROWS[event.key]) {
      this.held.add(event.key)
      const [x, y] = this.cursor || [PAD.width / 2, PAD.height / 4]
      let [right, down] = [0, 0]
      for (const key of this.held) {
        right += ARROWS[key][0]
        down += ARROWS[key][1]
      }
      const step = KEY_STEP * (event.shiftKey ? 4 : 1)
      const within = (value, most) => Math.min(most - 10, Math.max(10, value))
      this.cursor = [within(x + step * right, PAD.width), within(y + step * down, PAD.height)]
      if (this.pointer === "key") this.go(this.cursor)
      else this.draw()
    } else return
    event.preventDefault()
  }

  // Puts strokes or an image in place of what is there, to be undone like a stroke.
  put(state) {
    if (this.pointer !== null) this.lift()
    this.past.push(this.state)
    this.future = []
    this.show(state)
  }

  clear() {
    if (this.pointer !== null) this.lift()
    if (!this.empty) this.put({ strokes: [] })
  }

  undo() {
    this.travel(this.past, this.future)
  }

  redo() {
    this.travel(this.future, this.past)
  }

  travel(from, to) {
    if (this.pointer !== null) this.lift()
    if (!from.length) return
    to.push(this.state)
    this.show(from.pop())
  }

  show(state) {
    this.state = state
    this.marks = []
    this.draw()
    this.changed(this)
  }

  // Draws all of it when the browser draws next.
  draw() {
    if (this.drawing) return
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0
      this.paint()
    })
  }

  paint() {
    const { canvas, context: pen } = this
    const ratio = window.devicePixelRatio || 1
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map(side => Math.max(1, Math.round(side * ratio)))
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
    const style = getComputedStyle(canvas)
    const color = name => style.getPropertyValue(name).trim()
    pen.setTransform(width / PAD.width, 0, 0, height / PAD.height, 0, 0)
    pen.fillStyle = color("--paper")
    pen.fillRect(0, 0, PAD.width, PAD.height)
    if (this.state.image) {
      const { left, top, zoom } = this.placed()
      const { image } = this.state
      pen.imageSmoothingQuality = "high"
      pen.drawImage(image, left, top, image.width * zoom, image.height * zoom)
    } else {
      Object.assign(pen, { lineCap: "round", lineJoin: "round", strokeStyle: color("--ink") })
      for (const { width: thick, points } of this.state.strokes) trace(pen, thick, points)
    }
    Object.assign(pen, { font: "600 13px system-ui, sans-serif", textBaseline: "bottom" })
    for (const { box: [left, top, right, bottom], text, unsure, chosen } of this.marks) {
      pen.lineWidth = chosen ? 3 : 1.5
      pen.strokeStyle = pen.fillStyle = color(unsure ? "--unsure" : "--best")
      pen.strokeRect(left, top, right - left, bottom - top)
      pen.fillText(text, left + 1, top > 16 ? top - 1 : bottom + 15)
    }
    if (this.cursor) {
      const [x, y] = this.cursor
      Object.assign(pen, { lineWidth: 2, strokeStyle: color("--best") })
      pen.beginPath()
      for (const [right, down] of Object.values(ARROWS)) {
        const from = this.pointer === "key" ? 0 : 3 // with the pen down, it has no gap
        pen.moveTo(x + from * right, y + from * down)
        pen.lineTo(x + 12 * right, y + 12 * down)
      }
      pen.stroke()
    }
  }

  // Where an image lies on the pad, as large as it can be there.
  placed() {
    const { width, height } = this.state.image
    const zoom = Math.min(PAD.width / width, PAD.height / height)
    return { left: (PAD.width - zoom * width) / 2, top: (PAD.height - zoom * height) / 2, zoom }
  }
}

// A path with round corners; of one point, a dot.
function trace(pen, width, points) {
  pen.lineWidth = width
  pen.beginPath()
  pen.moveTo(...points[0])
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i]
    pen.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2)
  }
  pen.lineTo(...points[points.length - 1])
  pen.stroke()
}
