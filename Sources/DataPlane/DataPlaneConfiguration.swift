package import LinuxIO
package import SOCKS

/// How long a session may wait; every timeout has its own reason and its own counter.
package struct Timeouts: Sendable {
  /// TCP connection to the upstream, or from the embedded server to a target.
  package var connect = Timeout.seconds(10)
  /// The SOCKS handshake. The upstream connects to the target meanwhile, which takes it up to two
  /// minutes on a Linux host with its default of six SYN retries; most applications give up earlier.
  package var handshake = Timeout.seconds(60)
  /// No byte either way. RFC 5382, section 5: at least 2 h 4 min for an established connection.
  package var idle = Timeout.seconds(7440)
  /// No byte after one side has ended. RFC 5382, section 5: at least 4 minutes.
  package var halfClose = Timeout.seconds(600)

  package init() {}
}

/// All that the data plane needs to know, validated.
package struct DataPlaneConfiguration: Sendable {
  package var workers: Int
  package var listeners: [ListenerConfiguration]
  /// Where captured flows go; nil if there are none to capture.
  package var upstream: Upstream?
  /// What the embedded server demands of its clients; nil for no authentication.
  package var serverCredentials: Credentials?
  /// Mark of every socket (`SO_MARK`), nil without CAP_NET_ADMIN.
  package var mark: UInt32?
  package var timeouts = Timeouts()
  /// Descriptors that the process may have open.
  package var descriptorLimit: Int
  /// The embedded server is the upstream of the captured flows.
  package var servesItself = false

  package init(workers: Int, listeners: [ListenerConfiguration], descriptorLimit: Int) {
    self.workers = workers
    self.listeners = listeners
    self.descriptorLimit = descriptorLimit
  }

  /// What is left of the limit for sessions and pipes: each worker has an epoll, a mailbox and its
  /// listeners, and the rest of the program (netlink, signals, look-ups, log) some of its own.
  var sessionDescriptors: Int {
    max(descriptorLimit - 64 - workers * (2 + listeners.count), 16)
  }
}
