import DNS

/// A name in wire form: labels behind their lengths, and the root's empty one.
func wire(_ name: String) -> [UInt8] {
  name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
}

func wire(_ value: Int) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xFF)] }

func question(_ name: String, type: Int = 1) -> [UInt8] { wire(name) + wire(type) + wire(1) }

func record(_ name: [UInt8] = wire("example.com"), type: Int = 1, data: [UInt8]) -> [UInt8] {
  name + wire(type) + wire(1) + [0, 0, 1, 0] + wire(data.count) + data
}

/// An OPT record; `flags` is the first byte of its flags.
func options(accepting bytes: Int, flags: UInt8 = 0, data: [UInt8] = []) -> [UInt8] {
  [0] + wire(41) + wire(bytes) + [0, 0, flags, 0] + wire(data.count) + data
}

/// A message with everything in its place.
func message(
  id: Int = 0x1234, flags: Int, questions: [[UInt8]] = [], answers: [[UInt8]] = [],
  authorities: [[UInt8]] = [], additionals: [[UInt8]] = []
) -> [UInt8] {
  wire(id) + wire(flags)
    + [questions, answers, authorities, additionals].flatMap { wire($0.count) }
    + [questions, answers, authorities, additionals].flatMap { $0.flatMap { $0 } }
}

/// RD of a query.
let recursive = 0x0100
/// QR, RD and RA of an answer.
let answering = 0x8180

func query(
  _ name: String = "www.example.com", id: Int = 0x1234, type: Int = 1, accepting bytes: Int? = nil
) -> Query {
  let bytes = message(
    id: id, flags: recursive, questions: [question(name, type: type)],
    additionals: bytes.map { [options(accepting: $0)] } ?? [])
  guard let query = Query(bytes) else { preconditionFailure("no query") }
  return query
}

/// The message behind its length.
func framed(_ message: [UInt8]) -> [UInt8] { wire(message.count) + message }
