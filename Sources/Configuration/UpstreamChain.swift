internal import Addressing

/// The upstream as it is given: one URL, or several joined by commas. The first is connected to, and each
/// is reached through the one before it.
package struct UpstreamChain: Hashable, Sendable {
  package static let maximumHops = 8
  package static let embedded = UpstreamChain(.embedded)

  /// At least one.
  package private(set) var hops: [UpstreamURL]

  package init(_ url: UpstreamURL) { hops = [url] }

  /// Parses URLs joined by commas. Only a comma before a scheme and `://` joins; any other belongs to the
  /// URL that it stands in.
  package init(_ text: some StringProtocol) throws(UpstreamChainError) {
    let parts = Self.parts(Array(text.utf8))
    guard parts.count <= Self.maximumHops else { throw .tooManyHops(parts.count) }
    var hops: [UpstreamURL] = []
    for (index, part) in parts.enumerated() {
      do {
        hops.append(try UpstreamURL(part))
      } catch {
        throw .url(error, hop: parts.count == 1 ? nil : index + 1)
      }
    }
    if hops.count > 1, let index = hops.firstIndex(where: \.isThisProcess) {
      throw .thisProcess(hop: index + 1)
    }
    for index in hops.indices.dropFirst() {
      try Self.check(hops[index], index + 1, behind: hops[index - 1])
    }
    self.hops = hops
  }

  /// What is connected to.
  package var first: UpstreamURL { hops[0] }

  /// What connects to destinations.
  package var last: UpstreamURL { hops[hops.count - 1] }

  /// Whether a hop has a user and a password.
  package var hasPassword: Bool { hops.contains(where: \.hasPassword) }

  /// Whether a hop has a user whose password is left to another source.
  package var lacksPassword: Bool { hops.contains(where: \.lacksPassword) }

  /// What flows fill in in users and passwords.
  package var placeholders: Set<IdentityTemplate.Placeholder> {
    hops.reduce(into: []) { $0.formUnion($1.placeholders) }
  }

  /// Gives the hop that lacks a password this one, 1 to 255 bytes.
  package mutating func setPassword(_ password: [UInt8]) throws(UpstreamChainError) {
    let lacking = hops.indices.filter { hops[$0].lacksPassword }
    guard lacking.count == 1, let index = lacking.first else { throw .passwordsMissing }
    do {
      try hops[index].setPassword(password)
    } catch {
      throw .url(error, hop: isChain ? index + 1 : nil)
    }
  }

  package var isChain: Bool { hops.count > 1 }

  /// The hop at an index, for people; without a number where there is but one.
  package func name(ofHop index: Int) -> String {
    isChain ? "hop \(index + 1), \(hops[index])" : "\(hops[index])"
  }

  /// Why a chain carries no datagrams, which names the hop that is to blame; nil for a lone upstream, and
  /// where each hop has to be asked.
  package var obstacleToDatagrams: String? {
    guard isChain,
      let index = hops.firstIndex(where: { !$0.hasDatagrams || $0.isProtected })
    else { return nil }
    return hops[index].isProtected
      ? "\(name(ofHop: index)): Sluice carries no UDP by GSSAPI in a chain"
      : "\(name(ofHop: index)): this kind of upstream has no UDP"
  }

  /// Whether a hop can be asked for by the one before it.
  private static func check(
    _ hop: UpstreamURL, _ number: Int, behind former: UpstreamURL
  ) throws(UpstreamChainError) {
    guard case .host(let endpoint)? = hop.server else { throw .socketBehindAnother(hop: number) }
    if case .address(let address) = endpoint, !address.address.isIPv4, !former.hasIPv6 {
      throw .ipv6BehindSOCKS4(hop: number)
    }
  }

  /// Splits at commas that a scheme and `://` follow.
  private static func parts(_ bytes: [UInt8]) -> [String] {
    var parts: [ArraySlice<UInt8>] = []
    var start = bytes.startIndex
    for (index, byte) in bytes.enumerated()
    where byte == UInt8(ascii: ",") && beginsURL(bytes[(index + 1)...]) {
      parts.append(bytes[start..<index])
      start = index + 1
    }
    parts.append(bytes[start...])
    return parts.map { String(decoding: $0, as: UTF8.self) }
  }

  /// RFC 3986, section 3.1: a letter, then letters, digits, `+`, `-` and `.`, up to the colon.
  private static func beginsURL(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")),
      bytes[colon...].starts(with: "://".utf8),
      let first = bytes.first, isLetter(first)
    else { return false }
    return bytes[..<colon].allSatisfy {
      isLetter($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
        || "+-.".utf8.contains($0)
    }
  }

  private static func isLetter(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
  }
}

extension UpstreamChain: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// The URLs with `***` for each password.
  package var description: String { hops.map(\.description).joined(separator: ",") }
  package var debugDescription: String { description }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

/// Why a text is neither an upstream nor a chain of them. Hops count from 1; the texts never repeat what
/// may be a password.
package enum UpstreamChainError: Error, Hashable, Sendable {
  /// `hop` is nil where there is but one.
  case url(UpstreamURLError, hop: Int?)
  case tooManyHops(Int)
  case thisProcess(hop: Int)
  case socketBehindAnother(hop: Int)
  case ipv6BehindSOCKS4(hop: Int)
  /// Of several hops.
  case passwordsMissing
}

extension UpstreamChainError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .url(let error, nil): "\(error)"
    case .url(let error, let hop?): "hop \(hop): \(error)"
    case .tooManyHops(let count):
      "upstream of \(count) hops: expected at most \(UpstreamChain.maximumHops)"
    case .thisProcess(let hop):
      "hop \(hop): no server but this process itself: expected URLs alone in a chain"
    case .socketBehindAnother(let hop):
      "hop \(hop): a Unix socket, which no hop can be asked for: expected host[:port], a socket only "
        + "for the first"
    case .passwordsMissing:
      "several hops have a user and no password: only one can have it from a file or the environment"
    case .ipv6BehindSOCKS4(let hop):
      "hop \(hop): an IPv6 address, which SOCKS4 before it cannot carry: give a name or an IPv4 address"
    }
  }
}
