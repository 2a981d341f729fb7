/// Settings as they were written, before anything is checked. Flags and, later in precedence, files
/// fill in the same values; nil or empty where nothing was said.
package struct Options: Hashable, Sendable {
  /// Texts for `only` these and `except` these.
  package struct Choice: Hashable, Sendable {
    package var only: [String]
    package var except: [String]

    package init(only: [String] = [], except: [String] = []) {
      self.only = only
      self.except = except
    }

    var isEmpty: Bool { only.isEmpty && except.isEmpty }
  }

  package var upstream: String?
  /// More of them, with which it is a group.
  package var furtherUpstreams: [String] = []
  package var balance: String?
  /// Which flows go through which upstream, directly, or nowhere.
  package var rules: [String] = []
  /// It does not stand in the arguments, which every user of the host can read.
  package var isUpstreamHidden = false
  /// Of the upstream's user, where the URL does not say it.
  package var password: UpstreamPassword?
  /// Where that is to be read.
  package var passwordFile: String?
  package var machine = false
  package var users = Choice()
  package var groups = Choice()
  package var controlGroups = Choice()
  package var outputInterfaces = Choice()
  package var gateways: [String] = []
  package var sources = Choice()
  package var hardwareAddresses = Choice()
  package var tcp: String?
  package var port: Int?
  package var bypass: [String] = []
  package var bypassFiles: [String] = []
  package var bypassPorts: [String] = []
  package var proxyOnly: [String] = []
  package var proxyOnlyFiles: [String] = []
  package var proxyOnlyPorts: [String] = []
  package var proxyPrivate = false
  package var udp: String?
  package var quic: String?
  package var dns: String?
  package var dnsServer: String?
  package var icmp: String?
  package var other: String?
  package var ipv6: String?
  package var onExit: String?
  package var onUpstreamDown: String?
  package var workers: Int?
  package var halfClose: String?
  package var pool: Int?
  package var earlyData: String?
  package var probeInterval: String?
  package var probeTarget: String?
  /// Seconds.
  package var probeTimeout: Int?
  package var probeFailures: Int?
  package var tcpFastOpen = false
  package var congestion: String?
  /// Seconds.
  package var connectTimeout: Int?
  package var userTimeout: Int?
  package var handshakeTimeout: Int?
  package var idleTimeout: Int?
  package var halfCloseTimeout: Int?
  package var drainTimeout: Int?
  package var udpUnrepliedTimeout: Int?
  package var udpTimeout: Int?
  package var dnsTimeout: Int?
  package var udpRelay: String?
  package var udpAssociations: Int?
  package var udpPerClient: Int?
  package var control: String?
  package var controlGroup: String?
  package var metrics: String?

  package init() {}
}

/// A password, which nothing shows that shows what it is in.
package struct UpstreamPassword: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
  package let bytes: [UInt8]

  package init(_ bytes: [UInt8]) { self.bytes = bytes }

  package var description: String { "***" }
  package var customMirror: Mirror { Mirror(self, children: []) }
}

/// A setting that cannot be used: what it says, and what was expected instead.
package struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
  package let description: String

  package init(_ description: String) { self.description = description }
}
