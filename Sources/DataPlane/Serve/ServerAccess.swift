package import Addressing

/// Who may use the embedded server, and to reach what. A destination that a rule denies is refused,
/// whatever allows it; where any is allowed by a rule, all others are refused.
///
/// Names are looked up here, so that whoever owns a name chooses the address: each is checked, too. A
/// client of another host does not reach this host's loopback, unless a rule allows addresses there: what
/// listens on it trusts that nobody does.
package struct ServerAccess: Sendable {
  /// Whose connections are accepted; everybody's if there are none.
  package var clients: [CIDR] = []
  package var allowed: [DestinationPattern] = []
  package var denied: [DestinationPattern] = []

  package init() {}

  func admits(_ client: IPAddress) -> Bool {
    clients.isEmpty || clients.contains { $0.contains(client) }
  }

  /// What the rules say of a name before it is looked up.
  enum Verdict: Equatable {
    case denied
    /// Its addresses may still be denied.
    case allowed
    /// None of its addresses is allowed, unless a rule names the address.
    case undecided
  }

  func verdict(on name: HostName, port: UInt16) -> Verdict {
    if allowed.isEmpty, denied.isEmpty { return .allowed }
    let text = DestinationPattern.normalised(name.text)
    if denied.contains(where: { $0.matches(name: text, port: port) }) { return .denied }
    if allowed.isEmpty || allowed.contains(where: { $0.matches(name: text, port: port) }) {
      return .allowed
    }
    return .undecided
  }

  /// Whether an address may be reached.
  /// - Parameters:
  ///   - isNamed: it belongs to a name that the rules allow.
  ///   - isLocalClient: the client is on this host.
  func permits(_ target: SocketAddress, isNamed: Bool, isLocalClient: Bool) -> Bool {
    let target = target.effective
    if denied.contains(where: { $0.matches(target) }) { return false }
    if target.address.isLoopback, !isLocalClient {
      return allowed.contains { $0.isOfLoopback && $0.matches(target) }
    }
    return isNamed || allowed.isEmpty || allowed.contains { $0.matches(target) }
  }
}

/// Destinations that a rule names: any, a block of addresses, a name, or all names below one; with all
/// ports or some.
package struct DestinationPattern: Hashable, Sendable {
  private enum Host: Hashable {
    case any
    case block(CIDR)
    case name(String)
    /// With the dot in front.
    case suffix(String)
  }

  private let host: Host
  private let ports: ClosedRange<UInt16>

  /// Parses `HOST`, `HOST:PORT` and `HOST:FIRST-LAST`; HOST is `*`, an address, a block, a name or
  /// `*.name`, and blocks of IPv6 stand in brackets where a port follows.
  package init?(_ text: String) {
    if let block = CIDR(text) {
      self.init(.block(block), 0...UInt16.max)
      return
    }
    // A colon outside of brackets begins the ports.
    let hostEnd = text.lastIndex(of: "]") ?? text.startIndex
    let colon = text[hostEnd...].lastIndex(of: ":")
    guard let host = Self.host(text[..<(colon ?? text.endIndex)]) else { return nil }
    guard let colon else {
      self.init(host, 0...UInt16.max)
      return
    }
    let bounds = text[text.index(after: colon)...].split(
      separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard let first = UInt16(decimalPort: bounds[0]), let last = UInt16(decimalPort: bounds.last!),
      first <= last
    else { return nil }
    self.init(host, first...last)
  }

  private init(_ host: Host, _ ports: ClosedRange<UInt16>) {
    self.host = host
    self.ports = ports
  }

  private static func host(_ text: Substring) -> Host? {
    if text == "*" { return .any }
    if text.first == "[", text.last == "]" {
      guard let block = CIDR(text.dropFirst().dropLast()), !block.base.isIPv4 else { return nil }
      return .block(block)
    }
    if let block = CIDR(text), block.base.isIPv4 { return .block(block) }
    let isSuffix = text.hasPrefix("*.")
    let name = normalised(String(isSuffix ? text.dropFirst(2) : text))
    // What has digits and dots alone is an address that is none.
    guard HostName(name) != nil, name.utf8.allSatisfy({ !"*/:[]".utf8.contains($0) }),
      !name.utf8.allSatisfy({ "0123456789.".utf8.contains($0) })
    else { return nil }
    return isSuffix ? .suffix("." + name) : .name(name)
  }

  /// As names are compared: capitals of ASCII are small, and the root's dot is not there.
  static func normalised(_ name: String) -> String {
    var bytes = name.utf8.map { (65...90).contains($0) ? $0 + 32 : $0 }
    if bytes.last == UInt8(ascii: ".") { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// - Parameter name: normalised.
  func matches(name: String, port: UInt16) -> Bool {
    guard ports.contains(port) else { return false }
    return switch host {
    case .any: true
    case .block: false
    case .name(let own): name == own
    case .suffix(let suffix): name.hasSuffix(suffix)
    }
  }

  func matches(_ target: SocketAddress) -> Bool {
    guard ports.contains(target.port) else { return false }
    return switch host {
    case .any: true
    case .block(let block): block.contains(target.address)
    case .name, .suffix: false
    }
  }

  /// Whether it names addresses of the loopback, not all addresses there are.
  var isOfLoopback: Bool {
    switch host {
    case .block(let block): block.base.isLoopback
    case .any, .name, .suffix: false
    }
  }
}

extension SocketAddress {
  /// Where a connection to it goes: unspecified addresses lead to the loopback.
  fileprivate var effective: SocketAddress {
    let target = unmapped
    guard target.address.isUnspecified else { return target }
    return SocketAddress(target.address.isIPv4 ? .v4(.loopback) : .v6(.loopback), target.port)
  }
}
