package import Addressing

/// What is to be captured, and how; `table()` and `routing()` say what makes the kernel do it.
package struct RedirectPolicy: Hashable, Sendable {
  /// How TCP reaches the daemon.
  package enum Capture: Hashable, Sendable {
    /// Destination NAT; the daemon asks for SO_ORIGINAL_DST.
    case redirect
    /// Delivery of the unchanged packet to a transparent socket; needs policy routing.
    case tproxy
  }

  /// Capture of what arrives from a LAN.
  package struct Gateway: Hashable, Sendable {
    /// Names; an interface need not exist yet.
    package var interfaces: [String]
    package var capture: Capture

    package init(interfaces: [String], capture: Capture) {
      self.interfaces = interfaces
      self.capture = capture
    }
  }

  package enum Phase: Hashable, Sendable {
    case capturing
    /// No new connection is captured; those that were go on.
    case draining
  }

  /// Where the daemon listens. For `tproxy` that is 127.0.0.1 and ::1; for `redirect` the same as
  /// long as only this host's own traffic is captured, and every address with a gateway.
  package struct Ports: Hashable, Sendable {
    package var redirect: UInt16
    package var tproxy: UInt16

    package init(redirect: UInt16 = 10880, tproxy: UInt16 = 10881) {
      self.redirect = redirect
      self.tproxy = tproxy
    }
  }

  /// Nil: this host's own traffic is left alone.
  package var machine: Capture?
  package var gateway: Gateway?
  package var ports: Ports
  /// Never captured, nor is what they send.
  package var upstreams: [IPAddress]
  /// Never captured, in addition to the default ranges.
  package var bypass: [CIDR]
  /// Whether private ranges (`BypassRanges.privateUse`) are captured.
  package var proxyPrivate: Bool
  package var phase: Phase

  package init(
    machine: Capture? = nil, gateway: Gateway? = nil, ports: Ports = Ports(),
    upstreams: [IPAddress] = [], bypass: [CIDR] = [], proxyPrivate: Bool = false,
    phase: Phase = .capturing
  ) {
    self.machine = machine
    self.gateway = gateway
    self.ports = ports
    self.upstreams = upstreams
    self.bypass = bypass
    self.proxyPrivate = proxyPrivate
    self.phase = phase
  }

  /// Whether any scope is captured by `tproxy`.
  var usesTransparentProxy: Bool { machine == .tproxy || gateway?.capture == .tproxy }
}
