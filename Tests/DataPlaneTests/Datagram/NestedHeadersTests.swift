import Addressing
import TestSupport
import Testing

@testable import DataPlane

/// What leads a datagram through the relays of a chain, and back.
struct NestedHeadersTests {
  private static let v4: [UInt8] = [0, 0, 0, 1, 198, 51, 100, 7, 0x0F, 0xA0]
  private static let v6: [UInt8] =
    [0, 0, 0, 4, 0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x0F, 0xA1]
  private static let name: [UInt8] = [0, 0, 0, 3, 5] + Array("hop.x".utf8) + [0x0F, 0xA2]
  /// The same address as an IPv6 socket of both families tells it.
  private static let mapped: [UInt8] =
    [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 198, 51, 100, 7, 0x0F, 0xA0]
  private static let answer: [UInt8] = [0, 0, 0, 1, 203, 0, 113, 7, 1, 187, 1, 2, 3]

  private static func endpoint(_ text: String) throws -> Endpoint {
    try #require(Endpoint(text))
  }

  /// What is left of a datagram, or why it is dropped.
  private static func unwrapped(
    _ datagram: [UInt8], by headers: inout NestedHeaders
  ) -> Result<[UInt8], DatagramDrop> {
    datagram.withUnsafeBytes { bytes in
      do throws(DatagramDrop) {
        return .success(Array(try headers.unwrap(bytes)))
      } catch {
        return .failure(error)
      }
    }
  }

  @Test(arguments: [
    (["198.51.100.7:4000"], v4),
    (["[2001:db8::9]:4001"], v6),
    (["hop.x:4002"], name),
    (["198.51.100.7:4000", "[2001:db8::9]:4001", "hop.x:4002"], v4 + v6 + name),
    (["hop.x:4002", "198.51.100.7:4000"], name + v4),
    (Array(repeating: "[2001:db8::9]:4001", count: 7), Array(repeatElement(v6, count: 7).joined())),
  ])
  func leadThroughAllRelays(_ relays: [String], _ expected: [UInt8]) throws {
    let headers = NestedHeaders(try relays.map(Self.endpoint))
    #expect(Array(headers.prefix) == expected)
  }

  @Test(arguments: [
    // As it was sent, and in other words for the same.
    (v4 + v6 + answer, Result<[UInt8], DatagramDrop>.success(answer)),
    (mapped + v6 + answer, .success(answer)),
    ([7, 7, 0] + v4[3...] + v6 + answer, .success(answer)),
    (v4 + v6, .success([])),
    // From others than the relays, or in another order.
    ([0, 0, 0, 1, 198, 51, 100, 8, 0x0F, 0xA0] + v6 + answer, .failure(.sourceNotAllowed)),
    ([0, 0, 0, 1, 198, 51, 100, 7, 0x0F, 0xA1] + v6 + answer, .failure(.sourceNotAllowed)),
    (v6 + v4 + answer, .failure(.sourceNotAllowed)),
    (v4 + name + answer, .failure(.sourceNotAllowed)),
    (v4 + answer, .failure(.sourceNotAllowed)),
    // Parts of larger ones.
    ([0, 0, 1] + v4[3...] + v6 + answer, .failure(.fragmented)),
    (v4 + [0, 0, 0x81] + v6[3...] + answer, .failure(.fragmented)),
    // Too short, and of no known kind.
    ([], .failure(.malformed)),
    (Array(v4.dropLast()), .failure(.malformed)),
    (v4, .failure(.malformed)),
    (v4 + v6.dropLast(), .failure(.malformed)),
    (v4 + [0, 0, 0, 2] + answer, .failure(.malformed)),
    (v4 + [0, 0, 0, 3, 0, 1, 1], .failure(.malformed)),
  ])
  func takeOffWhatTheRelaysPutBefore(
    _ datagram: [UInt8], _ expected: Result<[UInt8], DatagramDrop>
  ) throws {
    var headers = NestedHeaders(
      [try Self.endpoint("198.51.100.7:4000"), try Self.endpoint("[2001:db8::9]:4001")])
    #expect(Self.unwrapped(datagram, by: &headers) == expected)
  }

  /// Its address is that of the first answer with its port, and nobody else's from then on; the name
  /// itself is always right.
  @Test func addressOfANameIsLearnt() throws {
    var headers = NestedHeaders([try Self.endpoint("hop.x:4000")])
    let other: [UInt8] = [0, 0, 0, 1, 198, 51, 100, 8, 0x0F, 0xA0]
    let otherPort: [UInt8] = [0, 0, 0, 1, 198, 51, 100, 8, 0x0F, 0xA1]
    for (before, isTaken) in [
      (otherPort, false), (Self.v4, true), (other, false), (Self.mapped, true), (Self.name, false),
      ([0, 0, 0, 3, 5] + Array("hop.x".utf8) + [0x0F, 0xA0], true), (otherPort, false),
    ] {
      #expect(
        Self.unwrapped(before + Self.answer, by: &headers)
          == (isTaken ? .success(Self.answer) : .failure(.sourceNotAllowed)))
    }
  }

  // MARK: Against a model

  /// What the relays of a chain do, one after the other: each takes off the header that it is told by.
  private static func targets(of datagram: [UInt8], count: Int) -> (relays: [[UInt8]], [UInt8]) {
    var rest = datagram[...]
    var relays: [[UInt8]] = []
    for _ in 0..<count {
      rest = rest.dropFirst(3)
      let kind = rest.first ?? 0
      let length =
        switch kind {
        case 1: 1 + 4 + 2
        case 4: 1 + 16 + 2
        default: 1 + 1 + Int(rest.dropFirst().first ?? 0) + 2
        }
      relays.append(Array(rest.prefix(length)))
      rest = rest.dropFirst(length)
    }
    return (relays, Array(rest))
  }

  private static func randomRelay(_ random: inout SplitMix) throws -> (String, [UInt8]) {
    let port = UInt16(1 + random.next(below: 65_535))
    let portBytes = [UInt8(port >> 8), UInt8(port & 0xFF)]
    switch random.next(below: 3) {
    case 0:
      let bytes = (0..<4).map { _ in UInt8(1 + random.next(below: 200)) }
      let text = bytes.map(String.init).joined(separator: ".")
      return ("\(text):\(port)", [1] + bytes + portBytes)
    case 1:
      let low = UInt8(1 + random.next(below: 9))
      return (
        "[2001:db8::\(low)]:\(port)",
        [4, 0x20, 1, 0x0D, 0xB8] + [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, low] + portBytes
      )
    default:
      let name = String(repeating: "n", count: 1 + Int(random.next(below: 60)))
      return ("\(name):\(port)", [3, UInt8(name.utf8.count)] + Array(name.utf8) + portBytes)
    }
  }

  @Test(arguments: 0..<300 as Range<UInt64>)
  func thereAndBack(seed: UInt64) throws {
    var random = SplitMix(seed: seed)
    let relays = try (0..<1 + random.next(below: 7)).map { _ in try Self.randomRelay(&random) }
    var headers = NestedHeaders(try relays.map { try Self.endpoint($0.0) })
    let payload = (0..<random.next(below: 100)).map { UInt8(truncatingIfNeeded: $0) }
    let sent = Array(headers.prefix) + Self.answer + payload
    let (told, rest) = Self.targets(of: sent, count: relays.count)
    #expect(told == relays.map(\.1))
    #expect(rest == Self.answer + payload)
    // Each relay on the way back puts one before what it gets.
    let answer = relays.reversed().reduce(Self.answer + payload) { [0, 0, 0] + $1.1 + $0 }
    #expect(Self.unwrapped(answer, by: &headers) == .success(Self.answer + payload))
    // Whatever comes in its place, it gives no more than it has, and only what the relays have sent.
    let hostile = mutated(answer, using: &random) { UInt8(truncatingIfNeeded: $0.next()) }
    if case .success(let left) = Self.unwrapped(hostile, by: &headers) {
      let (_, rest) = Self.targets(of: hostile, count: relays.count)
      #expect(left == rest)
    }
  }
}
