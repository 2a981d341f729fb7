package import Addressing
package import NFTables

/// What is to be captured, and how; `tables` and `routing` say what makes the kernel do it.
package struct RedirectPolicy: Hashable, Sendable {
  /// How TCP reaches the daemon.
  package enum Capture: Hashable, Sendable {
    /// Destination NAT; the daemon asks for SO_ORIGINAL_DST.
    case redirect
    /// Delivery of the unchanged packet to a transparent socket; needs policy routing.
    case tproxy
  }

  /// Which of many are meant.
  package struct Choice<Element: Hashable & Sendable>: Hashable, Sendable {
    /// Empty: all.
    package var only: [Element]
    /// Never, whatever `only` says.
    package var except: [Element]

    package init(only: [Element] = [], except: [Element] = []) {
      self.only = only
      self.except = except
    }

    package var isEverything: Bool { only.isEmpty && except.isEmpty }
  }

  /// Capture of what this host's programs send. All choices have to apply.
  package struct Machine: Hashable, Sendable {
    package var capture: Capture
    /// User and group numbers of the sending sockets.
    package var users = Choice<ClosedRange<UInt32>>()
    package var groups = Choice<ClosedRange<UInt32>>()
    package var controlGroups = Choice<ControlGroup>()
    /// Interfaces by which the packets would leave: names, or beginnings of names and `*`.
    package var outputInterfaces = Choice<String>()

    package init(_ capture: Capture) { self.capture = capture }
  }

  /// Capture of what arrives from a LAN. All choices have to apply.
  package struct Gateway: Hashable, Sendable {
    package var capture: Capture
    /// Names, or beginnings of names and `*`; an interface need not exist yet.
    package var interfaces: [String]
    /// Interfaces of these groups count as well.
    package var interfaceGroups: [UInt32]
    package var sources = Choice<CIDR>()
    package var hardwareAddresses = Choice<HardwareAddress>()
    /// Whether what `tproxy` decides there is forgotten, as on a bridge under br_netfilter: none of its
    /// UDP is captured, and it is rejected unless `uncaptured` says that it is bypassed.
    package var losesDatagrams = false

    package init(_ capture: Capture, interfaces: [String], interfaceGroups: [UInt32] = []) {
      self.capture = capture
      self.interfaces = interfaces
      self.interfaceGroups = interfaceGroups
    }
  }

  /// Which destinations are captured, in every scope.
  package struct Destinations: Hashable, Sendable {
    /// Nil: all but private ranges (`BypassRanges.privateUse`).
    package var only: [CIDR]?
    package var onlyPorts: [ClosedRange<UInt16>] = []
    package var bypass: [CIDR] = []
    package var bypassPorts: [ClosedRange<UInt16>] = []
    /// Whether private ranges are captured, too.
    package var includesPrivate = false

    package init() {}
  }

  /// What becomes of selected traffic that is not captured.
  package enum Treatment: Hashable, Sendable {
    /// It goes its ordinary way.
    case bypass
    /// Its sender is told that it may not.
    case reject
  }

  /// Traffic that is selected like captured traffic and is none, by class.
  package struct Uncaptured: Hashable, Sendable {
    /// UDP, as far as `dns` does not say otherwise; nil if it is captured like TCP, by `tproxy`.
    package var udp: Treatment?
    /// ICMP other than messages about undeliverable packets and those that keep a link going.
    package var icmp: Treatment
    /// Every other protocol, such as SCTP, GRE or ESP.
    package var other: Treatment
    /// Everything over IPv6; nil if it is captured like IPv4.
    package var ipv6: Treatment?

    /// - Parameter treatment: of what can never be captured.
    package init(_ treatment: Treatment, udp: Treatment? = nil, ipv6: Treatment? = nil) {
      self.udp = udp
      icmp = treatment
      other = treatment
      self.ipv6 = ipv6
    }
  }

  /// What is captured of DNS beside what is captured of everything.
  package enum DNSCapture: Hashable, Sendable {
    /// Port 53 is like any other.
    case none
    /// UDP to port 53, even where other UDP is not captured.
    case selected
    /// UDP and TCP to port 53 of any host, this one and exempt ones included, since a resolver was
    /// chosen for all of it; over IPv6 even where that is not captured. What goes to several hosts at
    /// once is left.
    case everywhere
  }

  package enum Exit: Hashable, Sendable {
    /// Without the daemon everything goes its ordinary way.
    case open
    /// A second table, which outlives the daemon, rejects what would have been captured.
    case closed
  }

  package enum Phase: Hashable, Sendable {
    case capturing
    /// No new connection is captured; those that were go on.
    case draining
    /// The same, and nothing is rejected either: the upstream is down and the user wants to go on.
    case suspended
  }

  /// Where the daemon listens. For `tproxy`, TCP and UDP, that is 127.0.0.1 and ::1; for `redirect` the same as
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
  package var machine: Machine?
  package var gateway: Gateway?
  package var destinations = Destinations()
  package var uncaptured = Uncaptured(.bypass)
  /// Whether UDP to port 443 is rejected instead of captured, so that its sender takes TCP.
  package var rejectsQUIC = false
  package var dns = DNSCapture.selected
  package var exit = Exit.open
  package var phase = Phase.capturing
  package var ports = Ports()
  /// Never captured, nor is what they send.
  package var upstreams: [IPAddress]
  /// TCP ports of services of this host. Their answers pass even where connection tracking has
  /// forgotten, or never seen, who began.
  package var services: [ClosedRange<UInt16>] = []
  package var numbers = Numbers()

  package init(machine: Machine? = nil, gateway: Gateway? = nil, upstreams: [IPAddress] = []) {
    self.machine = machine
    self.gateway = gateway
    self.upstreams = upstreams
  }
}

/// Numbers of the kernel that other programs use as well, so that free ones have to be chosen.
package struct Numbers: Hashable, Sendable {
  package var marks = Marks.candidates[0]
  /// Of our routes (`rtm_table`).
  package var routeTable: UInt8 = 155
  /// Place of the first of our rules among all rules of policy routing: after `local` (0), before `main`
  /// (32766).
  package var rulePriority: UInt32 = 155

  /// How many priorities the rules need, from `rulePriority` on.
  package static let ruleCount: UInt32 = 3

  package init() {}
}
