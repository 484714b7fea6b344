// Corrections: each a small picture, dark on white, with its right digit. They stay in this browser
// and are downloaded as a zip of LABEL/name.png, or a server writes them to its folder.

const STORE = "mnist_lit correction " // before the name of each, in localStorage, which all tabs share
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

// Each has a name, "7/name.png", as in the zip or in the server's folder.
class Corrections {
  constructor() {
    this.folder = null // of the server
    this.own = new Map() // name -> PNG in base64, where the browser did not store it; null, on the server
    this.full = false
  }

  get names() {
    const stored = this.folder ? [] : Object.keys(storage()).filter(key => key.startsWith(STORE))
    return [...stored.map(key => key.slice(STORE.length)), ...this.own.keys()].sort()
  }

  has(name) {
    return this.own.has(name) || STORE + name in storage()
  }

  // Asks the server whether it keeps them.
  async find() {
    this.folder = (await ask("collect")).folder
  }

  // Keeps a picture of `side` pixels as that of a digit; gives its name.
  async keep(label, levels, side) {
    const bytes = await png(levels, side)
    if (this.folder) {
      const { name } = await ask(`collect?label=${label}`, { method: "POST", body: bytes })
      this.own.set(name, null)
      return name
    }
    const name = `${label}/${new Date().toISOString().replace(/\D/g, "")}-${Math.random().toString(36).slice(2, 8)}.png`
    const text = btoa(String.fromCharCode(...bytes))
    try {
      localStorage.setItem(STORE + name, text)
    } catch (error) { // it has no room, or this page may not use it
      this.full = error.name === "QuotaExceededError"
      this.own.set(name, text)
    }
    return name
  }

  async forget(name) {
    if (this.folder) await ask(`collect?name=${encodeURIComponent(name)}`, { method: "DELETE" })
    if (!this.own.delete(name)) delete storage()[STORE + name]
  }

  empty() {
    for (const name of this.names) this.forget(name)
  }

  zipped() {
    return zip(this.names.map(name => {
      const text = this.own.get(name) ?? storage()[STORE + name]
      return { name, bytes: Uint8Array.from(atob(text), letter => letter.charCodeAt(0)) }
    }))
  }
}

// This browser's storage; nothing, if the page may not use it.
function storage() {
  try {
    return localStorage
  } catch {
    return {}
  }
}

async function ask(path, options) {
  const response = await fetch(path, options).catch(() => { throw new Error("the server does not answer") })
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.error)
  return answer
}
