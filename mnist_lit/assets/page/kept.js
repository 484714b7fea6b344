// Corrections: each a small picture, dark on white, with its right digit. They stay in this browser
// and are downloaded as a zip of LABEL/name.png, or a server writes them to its folder.

const STORE = "mnist_lit corrections" // of localStorage
const CRC = Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1
  return n >>> 0
})

function crc32(bytes) {
  let crc = 0xffffffff
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return bytes
}

// Numbers of 2 or 4 bytes, the smallest byte first: [[value, bytes], ...].
const little = numbers => Uint8Array.from(numbers.flatMap(
  ([value, length]) => Array.from({ length }, (_, i) => (value >>> (8 * i)) & 255)))
const big = value => Uint8Array.from([24, 16, 8, 0], shift => (value >>> shift) & 255)
const ascii = text => Uint8Array.from(text, letter => letter.charCodeAt(0))

// Grey levels (0 black) of a square -> a PNG file.
async function png(levels, side) {
  const rows = new Uint8Array(side * (side + 1)) // each row after its filter, none
  for (let y = 0; y < side; y++) rows.set(levels.subarray(y * side, (y + 1) * side), y * (side + 1) + 1)
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"))
  const chunk = (name, content) => {
    const named = joined([ascii(name), content])
    return joined([big(content.length), named, big(crc32(named))])
  }
  return joined([
    Uint8Array.from([137, 80, 78, 71, 13, 10, 26, 10]),
    chunk("IHDR", joined([big(side), big(side), Uint8Array.from([8, 0, 0, 0, 0])])),
    chunk("IDAT", new Uint8Array(await new Response(packed).arrayBuffer())),
    chunk("IEND", new Uint8Array(0)),
  ])
}

// [{name, bytes}] -> a zip file, nothing packed.
function zip(files) {
  const now = new Date()
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1)
  const day = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate()
  const [parts, directory] = [[], []]
  let at = 0
  for (const { name, bytes } of files) {
    const known = [[20, 2], [0, 2], [0, 2], [time, 2], [day, 2], [crc32(bytes), 4],
      [bytes.length, 4], [bytes.length, 4], [name.length, 2], [0, 2]]
    const local = joined([little([[0x04034b50, 4], ...known]), ascii(name), bytes])
    directory.push(joined([
      little([[0x02014b50, 4], [20, 2], ...known, [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]]), ascii(name)]))
    parts.push(local)
    at += local.length
  }
  const index = joined(directory)
  const end = little([[0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2],
    [index.length, 4], [at, 4], [0, 2]])
  return joined([...parts, index, end])
}

class Corrections {
  constructor() {
    this.folder = null // that of the server, if it keeps them
    try {
      this.entries = JSON.parse(localStorage.getItem(STORE)) || []
    } catch {
      this.entries = [] // no storage here: they stay as long as the page
    }
  }

  // Asks the server whether it keeps them.
  async find() {
    const answer = await (await fetch("collect")).json()
    if (answer.folder) Object.assign(this, { folder: answer.folder, entries: [] })
  }

  // Keeps a picture of `side` pixels as that of a digit; gives the entry.
  async keep(label, levels, side) {
    const bytes = await png(levels, side)
    if (this.folder) {
      const response = await fetch(`collect?label=${label}`, { method: "POST", body: bytes })
      const answer = await response.json()
      if (!response.ok) throw new Error(answer.error)
      this.entries.push({ name: answer.name })
    } else {
      const name = `${label}/${new Date().toISOString().replace(/\D/g, "")}-${Math.random().toString(36).slice(2, 8)}.png`
      this.entries.push({ name, png: btoa(String.fromCharCode(...bytes)) })
      this.store()
    }
    return this.entries[this.entries.length - 1]
  }

  async forget(entry) {
    if (this.folder) await fetch(`collect?name=${encodeURIComponent(entry.name)}`, { method: "DELETE" })
    this.entries = this.entries.filter(other => other.name !== entry.name)
    if (!this.folder) this.store()
  }

  empty() {
    this.entries = []
    this.store()
  }

  store() {
    try {
      localStorage.setItem(STORE, JSON.stringify(this.entries))
    } catch {
      this.full = true // or forbidden; those of this visit can still be downloaded
    }
  }

  zipped() {
    return zip(this.entries.map(({ name, png: content }) => (
      { name, bytes: Uint8Array.from(atob(content), letter => letter.charCodeAt(0)) })))
  }
}
