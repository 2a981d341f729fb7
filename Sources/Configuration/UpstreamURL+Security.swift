internal import Addressing

extension UpstreamURL {
  /// What stands behind `?` where a SOCKS5 server is to know us by GSSAPI:
  /// `gssapi[=SERVICE[@HOST]][&protection=LEVEL[,LEVEL...]]`, percent-decoded.
  package struct Security: Hashable, Sendable {
    /// What becomes of every message; `none` only where the server takes that for a level.
    package enum Protection: String, Hashable, Sendable, CaseIterable {
      case none
      case integrity
      case confidentiality
      /// The request is encrypted, and what of the rest is, each side decides.
      case selective
    }

    /// What RFC 1961, section 3.2, calls the server's service, and Dante too.
    private static let defaultService = "rcmd"
    private static let defaultLevels: [Protection] = [.confidentiality, .integrity]

    /// As it was written: with or without a host; nil if it was not.
    package let serviceText: String?
    /// What is acceptable, the best first; not empty.
    package let levels: [Protection]

    /// Who the server at `server` has to be: `service@host`.
    package func service(at server: Server) throws(UpstreamURLError) -> String {
      let text = serviceText ?? Self.defaultService
      if text.contains("@") { return text }
      switch server {
      case .host(.name(let name, _)): return "\(text)@\(name)"
      case .host(.address(let address)): return "\(text)@\(address.address)"
      case .socket: throw .serviceWithoutHost
      }
    }
  }

  /// Parts the query from the rest: only one that begins with `gssapi` is one, since a `?` may stand in a
  /// password or path as it is.
  static func splitQuery(
    _ text: ArraySlice<UInt8>
  ) -> (rest: ArraySlice<UInt8>, query: ArraySlice<UInt8>?) {
    let marker = Array("?gssapi".utf8)
    for start in text.indices.reversed() where text[start...].starts(with: marker) {
      let behind = text[start...].dropFirst(marker.count)
      guard let next = behind.first else { return (text[..<start], behind) }
      if next == UInt8(ascii: "=") || next == UInt8(ascii: "&") {
        return (text[..<start], behind)
      }
    }
    return (text, nil)
  }
}

extension UpstreamURL.Security: CustomStringConvertible {
  /// Reads what follows `?gssapi`.
  init(_ query: ArraySlice<UInt8>) throws(UpstreamURLError) {
    var fields = query.split(separator: UInt8(ascii: "&"), omittingEmptySubsequences: false)[...]
    // Behind the name there is nothing, or the service.
    let service = try percentDecoded(fields.removeFirst().dropFirst())
    let text = String(decoding: service, as: UTF8.self)
    let parts = text.split(separator: "@", omittingEmptySubsequences: false)
    guard query.first != UInt8(ascii: "=") || parts.count <= 2 && !parts.contains(""),
      !service.contains(0)
    else { throw .malformedService }
    serviceText = text.isEmpty ? nil : text
    var levels: [Protection] = []
    for field in fields {
      let text = String(decoding: field, as: UTF8.self)
      guard levels.isEmpty, text.hasPrefix("protection=") else { throw .queryFieldNotSupported }
      for word in text.dropFirst("protection=".count).split(
        separator: ",", omittingEmptySubsequences: false)
      {
        guard let level = Protection(rawValue: String(word)), !levels.contains(level) else {
          throw .malformedProtection
        }
        levels.append(level)
      }
    }
    self.levels = levels.isEmpty ? Self.defaultLevels : levels
  }

  /// As in a URL, from the `?` on.
  package var description: String {
    let service = serviceText.map { "=" + percentEncoded(Array($0.utf8), except: "@") } ?? ""
    let protection =
      levels == Self.defaultLevels
      ? "" : "&protection=" + levels.map(\.rawValue).joined(separator: ",")
    return "?gssapi" + service + protection
  }
}
