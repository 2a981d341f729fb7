/// Settings as they were written, before anything is checked. Flags and, later in precedence, files
/// fill in the same values; nil where nothing was said.
package struct Options: Sendable {
  package var upstream: String?
  package var machine = false
  package var gateways: [String] = []
  package var tcp: String?
  package var port: Int?
  package var bypass: [String] = []
  package var proxyPrivate = false
  package var workers: Int?
  /// Seconds.
  package var connectTimeout: Int?
  package var handshakeTimeout: Int?
  package var idleTimeout: Int?
  package var halfCloseTimeout: Int?
  package var drainTimeout: Int?

  package init() {}
}

/// A setting that cannot be used: what it says, and what was expected instead.
package struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
  package let description: String

  init(_ description: String) { self.description = description }
}
