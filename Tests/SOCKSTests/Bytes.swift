import Addressing
import SOCKS
import TestSupport

/// Bytes from hexadecimal digits, blanks between them ignored.
func hex(_ text: String) -> [UInt8] {
  let digits = text.filter { !$0.isWhitespace }
  return stride(from: 0, to: digits.count, by: 2).map { offset in
    guard let byte = UInt8(digits.dropFirst(offset).prefix(2), radix: 16) else {
      preconditionFailure("\(text) is not hexadecimal")
    }
    return byte
  }
}

/// All ways to cut the bytes into at most two pieces, and the way of single bytes.
func fragmentations(of bytes: [UInt8]) -> [[[UInt8]]] {
  [[bytes], bytes.map { [$0] }]
    + bytes.indices.dropFirst().map { [Array(bytes[..<$0]), Array(bytes[$0...])] }
}

/// The bytes damaged at a few places.
func mutated(_ bytes: [UInt8], using generator: inout SplitMix) -> [UInt8] {
  mutated(bytes, using: &generator) { telling(using: &$0) }
}

/// A random byte, most often one that means something to a SOCKS machine.
func telling(using generator: inout SplitMix) -> UInt8 {
  let meaningful: [UInt8] = [0, 1, 2, 3, 4, 5, 5, 5, 8, 16, 0x7F, 0xFF]
  let index = Int.random(in: 0..<2 * meaningful.count, using: &generator)
  return index < meaningful.count ? meaningful[index] : UInt8.random(in: 0...255, using: &generator)
}

// MARK: Values

func endpoint(_ text: String) -> Endpoint {
  guard let endpoint = Endpoint(text) else { preconditionFailure("\(text) is not an endpoint") }
  return endpoint
}

func credentials(_ username: String, _ password: String) -> Credentials {
  do {
    return try Credentials(username: username, password: password)
  } catch {
    preconditionFailure("\(error)")
  }
}

/// A destination of each kind, the longest and the shortest name among them.
let destinations: [Endpoint] = [
  endpoint("192.0.2.1:80"), endpoint("[2001:db8::1]:443"), endpoint("example.com:8080"),
  endpoint("x:1"), endpoint(String(repeating: "n", count: 255) + ":65535"),
  endpoint("0.0.0.0:0"), endpoint("[::]:0"),
]

/// None, some, the shortest and the longest.
let logins: [Credentials?] = [
  nil, credentials("user", "secret"), credentials("u", "p"),
  credentials(String(repeating: "U", count: 255), String(repeating: "P", count: 255)),
]

let noAddress = SocketAddress(.v4(.any), 0)
