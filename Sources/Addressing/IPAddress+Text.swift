// Text forms: dotted decimal without leading zeros, and RFC 4291 / RFC 5952 for IPv6.

extension IPv4Address: CustomStringConvertible, LosslessStringConvertible {
  /// Parses exactly four decimal octets; leading zeros are refused since others read them as octal.
  package init?(_ text: some StringProtocol) {
    var bits: UInt32 = 0
    var octets = 0
    for part in text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
      guard octets < 4, (1...3).contains(part.count),
        part.first != UInt8(ascii: "0") || part.count == 1
      else { return nil }
      var octet: UInt32 = 0
      for digit in part {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
        octet = octet * 10 + UInt32(digit - UInt8(ascii: "0"))
      }
      guard octet <= 255 else { return nil }
      bits = bits << 8 | octet
      octets += 1
    }
    guard octets == 4 else { return nil }
    self.init(bits: bits)
  }

  package var description: String {
    "\(bits >> 24).\(bits >> 16 & 255).\(bits >> 8 & 255).\(bits & 255)"
  }
}

extension IPv6Address: CustomStringConvertible, LosslessStringConvertible {
  /// Parses the forms of RFC 4291, section 2.2, an embedded IPv4 tail included; no zone identifier.
  package init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count >= 3, parts.count <= 9 else { return nil }
    var head: [UInt16] = []
    var tail: [UInt16] = []
    var compressed = false
    for (index, part) in parts.enumerated() {
      if part.isEmpty {
        // An empty part is one side of "::"; at either end "::" yields two empty parts.
        if index == 0 {
          guard parts[1].isEmpty else { return nil }
          continue
        }
        if index == parts.count - 1 {
          guard parts[index - 1].isEmpty else { return nil }
          continue
        }
        guard !compressed else { return nil }
        compressed = true
        continue
      }
      var groups: [UInt16] = []
      if index == parts.count - 1, part.contains(".") {
        guard let v4 = IPv4Address(part) else { return nil }
        groups = [UInt16(v4.bits >> 16), UInt16(v4.bits & 0xFFFF)]
      } else {
        guard part.utf8.count <= 4, part.first != "+", part.first != "-",
          let group = UInt16(part, radix: 16)
        else { return nil }
        groups = [group]
      }
      if compressed { tail += groups } else { head += groups }
    }
    let count = head.count + tail.count
    guard compressed ? count <= 7 : count == 8 else { return nil }
    let groups = head + Array(repeating: 0, count: 8 - count) + tail
    self.init(
      high: groups[..<4].reduce(0) { $0 << 16 | UInt64($1) },
      low: groups[4...].reduce(0) { $0 << 16 | UInt64($1) })
  }

  /// The canonical form of RFC 5952: lower case, the first longest run of zero groups compressed.
  package var description: String {
    if let mapped = mappedIPv4 { return "::ffff:\(mapped)" }
    let groups = (0..<8).map { index in
      UInt16(truncatingIfNeeded: (index < 4 ? high : low) >> UInt64(48 - 16 * (index % 4)))
    }
    var best = 0..<0
    var start = 0
    while start < 8 {
      var end = start
      while end < 8, groups[end] == 0 { end += 1 }
      if end - start > max(best.count, 1) { best = start..<end }
      start = max(end, start + 1)
    }
    func hex(_ slice: ArraySlice<UInt16>) -> String {
      slice.map { String($0, radix: 16) }.joined(separator: ":")
    }
    return best.isEmpty
      ? hex(groups[...]) : hex(groups[..<best.lowerBound]) + "::" + hex(groups[best.upperBound...])
  }
}

extension IPAddress: CustomStringConvertible, LosslessStringConvertible {
  package init?(_ text: some StringProtocol) {
    if let v4 = IPv4Address(text) {
      self = .v4(v4)
    } else if let v6 = IPv6Address(text) {
      self = .v6(v6)
    } else {
      return nil
    }
  }

  package var description: String {
    switch self {
    case .v4(let address): address.description
    case .v6(let address): address.description
    }
  }
}
