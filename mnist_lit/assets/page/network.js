// The network in plain JavaScript: weights as text -> what PyTorch computes in evaluation mode.
//
// A plane of activations is stored with a border of zeros, so that a convolution needs no special
// cases at an edge: it is a sum of shifted planes. BatchNorm is in the weights already.
"use strict"

const BORDER = 2 // pixels: as far as a 3 x 3 kernel of dilation 2 reaches
const [MNIST_MEAN, MNIST_STD] = [0.1307, 0.3081]
const TTA_SHIFTS = [[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0]] // pixels down and to the right

// Text -> whole numbers about 0, two characters each: all of ASCII but `"`, `\\`, `<` and the blank.
function integersOf(text) {
  const order = {}
  for (let code = 33, i = 0; code < 127; code++) if (![34, 60, 92].includes(code)) order[code] = i++
  return Float32Array.from({ length: text.length / 2 }, (_, i) => {
    return 91 * order[text.charCodeAt(2 * i)] + order[text.charCodeAt(2 * i + 1)] - 4140
  })
}

// Base64 of little-endian numbers in single precision.
function floatsOf(text) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  const bytes = new Uint8Array(text.length)
  for (let i = 0, at = 0, bits = 0; i < text.length && text[i] !== "="; i++) {
    bits = (bits << 6) | letters.indexOf(text[i])
    if (i % 4) bytes[at++] = bits >> (6 - 2 * (i % 4))
  }
  const view = new DataView(bytes.buffer)
  return Float32Array.from({ length: Math.floor((text.length * 3) / 16) }, (_, i) => view.getFloat32(4 * i, true))
}

// A sample digit, whose text has how many pixels are black and letters for 15 other levels, in turns
// -> 784 bytes, white on black.
function samplePixels(sample) {
  const pixels = new Uint8Array(784)
  let at = 0
  for (const [part] of sample.pixels.matchAll(/[0-9]+|[a-o]/g)) {
    if (part >= "a") pixels[at++] = 17 * (part.charCodeAt(0) - 96)
    else at += +part
  }
  return pixels
}

// The weights of a convolution, in the order in which `convolve` takes them: four output channels
// and three taps at a time, so both are filled up with zeros. `weight(o, i, t)` gives one of them.
// Where each channel is convolved by itself, it has one input.
function kernelOf(weight, outputs, inputs, size, dilation, pitch) {
  const squared = size * size, taps = 3 * Math.ceil((inputs * squared) / 3)
  const weights = new Float32Array(4 * Math.ceil(outputs / 4) * taps), offsets = new Int32Array(taps)
  for (let i = 0; i < inputs; i++) {
    for (let t = 0; t < squared; t++) {
      const [down, right] = [Math.floor(t / size), t % size].map(step => dilation * (step - (size >> 1)))
      offsets[i * squared + t] = (i * pitch + BORDER + down) * pitch + BORDER + right
      for (let o = 0; o < outputs; o++) weights[o * taps + i * squared + t] = weight(o, i, t)
    }
  }
  return { weights, offsets, outputs, pitch }
}

// Adds to the planes of `into` the convolution of the planes of `from`.
function convolve({ weights, offsets, outputs, pitch }, from, into) {
  const taps = offsets.length, side = pitch - 2 * BORDER, plane = pitch * pitch
  for (let o = 0; o < outputs; o += 4) {
    for (let k = 0; k < taps; k += 3) {
      const w = o * taps + k, x = w + taps, y = x + taps, z = y + taps
      const w0 = weights[w], w1 = weights[w + 1], w2 = weights[w + 2]
      const x0 = weights[x], x1 = weights[x + 1], x2 = weights[x + 2]
      const y0 = weights[y], y1 = weights[y + 1], y2 = weights[y + 2]
      const z0 = weights[z], z1 = weights[z + 1], z2 = weights[z + 2]
      for (let row = 0; row < side; row++) {
        const p = offsets[k] + row * pitch, q = offsets[k + 1] + row * pitch, r = offsets[k + 2] + row * pitch
        const a = o * plane + (row + BORDER) * pitch + BORDER, b = a + plane, c = b + plane, d = c + plane
        for (let i = 0; i < side; i++) {
          const s = from[p + i], t = from[q + i], u = from[r + i]
          into[a + i] += w0 * s + w1 * t + w2 * u
          into[b + i] += x0 * s + x1 * t + x2 * u
          into[c + i] += y0 * s + y1 * t + y2 * u
          into[d + i] += z0 * s + z1 * t + z2 * u
        }
      }
    }
  }
}

// The same, each channel by itself.
function convolveEach({ weights, offsets, outputs, pitch }, from, into) {
  const taps = offsets.length, side = pitch - 2 * BORDER, plane = pitch * pitch
  for (let o = 0; o < outputs; o++) {
    for (let k = 0; k < taps; k += 3) {
      const w = o * taps + k, w0 = weights[w], w1 = weights[w + 1], w2 = weights[w + 2]
      for (let row = 0; row < side; row++) {
        const start = o * plane + row * pitch, a = start + BORDER * pitch + BORDER
        const p = start + offsets[k], q = start + offsets[k + 1], r = start + offsets[k + 2]
        for (let i = 0; i < side; i++) {
          into[a + i] += w0 * from[p + i] + w1 * from[q + i] + w2 * from[r + i]
        }
      }
    }
  }
}

const planes = (channels, pitch) => new Float32Array(4 * Math.ceil(channels / 4) * pitch * pitch)

// A network without its test-time augmentation.
class Net {
  constructor(model) {
    const weights = model.half ? integersOf(model.weights) : floatsOf(model.weights)
    const numbers = floatsOf(model.numbers) // of each block, its channels' scales and biases
    let at = 0, next = 0, side = 28 - 2 * model.margin
    this.margin = model.margin
    this.input = planes(1, side + 2 * BORDER)
    this.blocks = model.blocks.map(block => {
      const { inputs, outputs, size, dilation, pool, depthwise } = block
      const pitch = side + 2 * BORDER, squared = size * size, from = at, scales = next
      at += outputs * inputs * squared
      next += 2 * outputs
      const weight = (o, i, t) => weights[from + (o * inputs + i) * squared + t] * numbers[scales + o]
      const backward = (i, o, t) => (depthwise ? weight(i, 0, squared - 1 - t) : weight(o, i, squared - 1 - t))
      const made = {
        ...block, side, pitch,
        bias: numbers.subarray(scales + outputs, next),
        convolve: depthwise ? convolveEach : convolve,
        kernel: kernelOf(weight, outputs, inputs, size, dilation, pitch),
        backward: kernelOf(backward, depthwise ? outputs : inputs, depthwise ? 1 : outputs, size, dilation, pitch),
        sums: planes(outputs, pitch), // before the activation
        output: planes(outputs, pitch),
        gradient: planes(outputs, pitch), // of the activation
      }
      if (pool) {
        side = side >> 1
        made.pooled = planes(outputs, side + 2 * BORDER)
      }
      return made
    })
  }

  // Puts an image into the input plane, shifted, without the margin and normalised.
  place(pixels, from, down, right) {
    const { margin } = this, { side, pitch } = this.blocks[0]
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const row = y + margin + down, column = x + margin + right
        const inside = row >= 0 && row < 28 && column >= 0 && column < 28
        const level = inside ? pixels[from + 28 * row + column] : 0
        this.input[(y + BORDER) * pitch + x + BORDER] = (level - MNIST_MEAN) / MNIST_STD
      }
    }
  }

  // The input plane -> its logits. The blocks keep their activations.
  forward() {
    let from = this.input
    for (const block of this.blocks) {
      const { pitch, bias, sums, output } = block
      bias.forEach((value, o) => sums.fill(value, o * pitch * pitch, (o + 1) * pitch * pitch))
      block.convolve(block.kernel, from, sums)
      for (let o = 0; o < block.outputs; o++) activate(block, o)
      from = output
      if (block.pool) {
        maxPool(block, block.add === undefined ? null : this.blocks[block.add].output)
        from = block.pooled
      }
    }
    const { side, pitch, output, outputs } = this.blocks[this.blocks.length - 1]
    return Float32Array.from({ length: outputs }, (_, digit) => {
      let sum = 0
      each(digit, side, pitch, at => { sum += output[at] })
      return sum / (side * side)
    })
  }

  // What each block makes of one image: [{name, channels, height, width, data}]. A depthwise
  // convolution is half a block.
  maps(pixels) {
    this.place(pixels, 0, 0, 0)
    this.forward()
    return this.blocks.filter(block => !block.depthwise).map(({ name, outputs, side, pitch, output }) => {
      const data = new Float32Array(outputs * side * side)
      let to = 0
      for (let o = 0; o < outputs; o++) each(o, side, pitch, at => { data[to++] = output[at] })
      return { name, channels: outputs, height: side, width: side, data }
    })
  }

  // How much each pixel speaks for `digit`: gradient of its logit, less the mean of the others',
  // times the pixel. Positive for, negative against; 0 where there is no ink.
  saliency(pixels, digit) {
    this.place(pixels, 0, 0, 0)
    this.forward()
    const { blocks } = this
    for (const block of blocks) block.gradient.fill(0)
    const last = blocks[blocks.length - 1]
    for (let o = 0; o < 10; o++) {
      const share = (o === digit ? 1 : -1 / 9) / (last.side * last.side)
      each(o, last.side, last.pitch, at => { last.gradient[at] = share })
    }
    const result = planes(1, blocks[0].pitch)
    for (let i = blocks.length - 1; i >= 0; i--) {
      const block = blocks[i], below = blocks[i - 1]
      for (let o = 0; o < block.outputs; o++) {
        each(o, block.side, block.pitch, at => { block.gradient[at] *= slope(block, at) })
      }
      if (!below || !below.pool) {
        block.convolve(block.backward, block.gradient, below ? below.gradient : result)
        continue
      }
      const pooled = planes(below.outputs, block.pitch)
      block.convolve(block.backward, block.gradient, pooled)
      unpool(below, pooled, below.add === undefined ? null : blocks[below.add])
    }
    const { margin } = this, { side, pitch } = blocks[0], saliency = new Float32Array(784)
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const at = (y + margin) * 28 + x + margin
        saliency[at] = result[(y + BORDER) * pitch + x + BORDER] * (pixels[at] / MNIST_STD)
      }
    }
    return saliency
  }
}

// What the page asks. `model` is MODEL of the page; bundle.py says what is in it.
class DigitReader {
  constructor(model) {
    this.model = model
    this.net = new Net(model)
    this.detector = model.detector && new Net(model.detector)
  }

  // (n, 784) in [0, 1], white on black -> (n, 10).
  logits(pixels, n) {
    const shifts = this.model.tta ? TTA_SHIFTS : TTA_SHIFTS.slice(0, 1), all = new Float32Array(10 * n)
    for (let i = 0; i < n; i++) {
      for (const [down, right] of shifts) {
        this.net.place(pixels, 784 * i, down, right)
        this.net.forward().forEach((value, digit) => { all[10 * i + digit] += value / shifts.length })
      }
    }
    return all
  }

  // (n, 784) in [0, 1] -> of each, what sureness.py says of it.
  read(pixels, n) {
    const { temperature, least } = this.model, logits = this.logits(pixels, n)
    return Array.from({ length: n }, (_, i) => {
      const probabilities = softmax(logits.subarray(10 * i, 10 * i + 10), temperature)
      let sureness = Math.max(...probabilities)
      const digit = probabilities.indexOf(sureness)
      if (this.detector) {
        this.detector.place(pixels, 784 * i, 0, 0)
        sureness *= 1 - softmax(this.detector.forward(), 1)[10]
      }
      return { digit, probabilities, sureness, uncertain: sureness < least }
    })
  }

  maps(pixels) {
    return this.net.maps(pixels)
  }

  saliency(pixels, digit) {
    return this.net.saliency(pixels, digit)
  }
}

// Calls `visit` with the index of each pixel of a plane, without its border.
function each(channel, side, pitch, visit) {
  for (let y = BORDER; y < side + BORDER; y++) {
    const row = (channel * pitch + y) * pitch
    for (let x = BORDER; x < side + BORDER; x++) visit(row + x)
  }
}

const sigmoid = x => 1 / (1 + Math.exp(-x))

function activate({ activation, side, pitch, sums, output }, channel) {
  const silu = activation === "silu", least = activation === "relu" ? 0 : -Infinity
  for (let y = BORDER; y < side + BORDER; y++) {
    const row = (channel * pitch + y) * pitch
    for (let at = row + BORDER; at < row + side + BORDER; at++) {
      const sum = sums[at]
      output[at] = silu ? sum * sigmoid(sum) : sum > least ? sum : least
    }
  }
}

// The derivative of the activation.
function slope({ activation, sums }, at) {
  if (activation === "relu") return sums[at] > 0 ? 1 : 0
  const s = sigmoid(sums[at])
  return activation === "silu" ? s * (1 + sums[at] * (1 - s)) : 1
}

// Of each four pixels the largest, after adding the output of another block.
function maxPool({ outputs, side, pitch, output, pooled }, added) {
  const small = side >> 1, narrow = small + 2 * BORDER, next = pitch + 1
  for (let o = 0; o < outputs; o++) {
    for (let y = 0; y < small; y++) {
      const row = (o * pitch + 2 * y + BORDER) * pitch + BORDER, to = (o * narrow + y + BORDER) * narrow + BORDER
      for (let x = 0, at = row; x < small; x++, at += 2) {
        let a = output[at], b = output[at + 1], c = output[at + pitch], d = output[at + next]
        if (added) {
          a += added[at]
          b += added[at + 1]
          c += added[at + pitch]
          d += added[at + next]
        }
        const up = a > b ? a : b, low = c > d ? c : d
        pooled[to + x] = up > low ? up : low
      }
    }
  }
}

// The gradient of what was pooled goes to the pixel that was the largest, and to what was added.
function unpool({ outputs, side, pitch, output, pooled, gradient }, from, added) {
  const narrow = (side >> 1) + 2 * BORDER
  for (let o = 0; o < outputs; o++) {
    each(o, side >> 1, narrow, to => {
      const [row, column] = [Math.floor(to / narrow) % narrow, to % narrow].map(i => 2 * (i - BORDER) + BORDER)
      const at = (o * pitch + row) * pitch + column
      const value = i => Math.fround(output[i] + (added ? added.output[i] : 0))
      const largest = [at, at + 1, at + pitch, at + pitch + 1].find(i => value(i) === pooled[to])
      gradient[largest] += from[to]
      if (added) added.gradient[largest] += from[to]
    })
  }
}

function softmax(logits, temperature) {
  const most = Math.max(...logits), powers = Array.from(logits, value => Math.exp((value - most) / temperature))
  const sum = powers.reduce((total, value) => total + value, 0)
  return powers.map(value => value / sum)
}
