internal import Addressing
internal import Configuration
internal import DataPlane
internal import RedirectPolicy

/// From settings to the rules that capture and the listeners that receive what they capture.
struct Scope {
  let policy: RedirectPolicy

  init(_ configuration: Configuration, upstreams: [IPAddress]) {
    policy = RedirectPolicy(
      machine: configuration.machine ? Self.machineCapture(configuration.tcp) : nil,
      gateway: configuration.gateways.isEmpty
        ? nil
        : RedirectPolicy.Gateway(
          interfaces: configuration.gateways, capture: Self.gatewayCapture(configuration.tcp)),
      ports: RedirectPolicy.Ports(redirect: configuration.port, tproxy: configuration.port + 1),
      upstreams: upstreams,
      bypass: configuration.bypass,
      proxyPrivate: configuration.proxyPrivate,
      phase: .capturing)
  }

  /// For this host's own traffic `redirect` is the cheaper one by default: only a connection's first
  /// packet meets a rule, where `tproxy` sends every packet through the loopback's input again.
  private static func machineCapture(_ choice: Configuration.Capture?) -> RedirectPolicy.Capture {
    choice.map(RedirectPolicy.Capture.init) ?? .redirect
  }

  /// For what arrives from a LAN `tproxy` is the cheaper one: no address translation.
  private static func gatewayCapture(_ choice: Configuration.Capture?) -> RedirectPolicy.Capture {
    choice.map(RedirectPolicy.Capture.init) ?? .tproxy
  }

  /// Where the rules send what they capture. `tproxy` and a local `redirect` lead to loopback; a
  /// `redirect` of a LAN's traffic leads to the address of the interface where it arrived.
  var listeners: [ListenerConfiguration] {
    var listeners: [ListenerConfiguration] = []
    if policy.machine == .redirect || policy.gateway?.capture == .redirect {
      let isLocal = policy.gateway?.capture != .redirect
      let hosts: [IPAddress] =
        isLocal ? [.v4(.loopback), .v6(.loopback)] : [.v4(.any), .v6(.any)]
      listeners += hosts.map {
        ListenerConfiguration(.redirect, on: SocketAddress($0, policy.ports.redirect))
      }
    }
    if policy.machine == .tproxy || policy.gateway?.capture == .tproxy {
      listeners += [IPAddress.v4(.loopback), .v6(.loopback)].map {
        ListenerConfiguration(.tproxy, on: SocketAddress($0, policy.ports.tproxy))
      }
    }
    return listeners
  }

  /// For people: "this machine's TCP (redirect) and TCP from lan0 (tproxy)".
  var description: String {
    var parts: [String] = []
    if let capture = policy.machine { parts.append("this machine's TCP (\(capture))") }
    if let gateway = policy.gateway {
      parts.append(
        "TCP from \(gateway.interfaces.joined(separator: ", ")) (\(gateway.capture))")
    }
    return parts.joined(separator: " and ")
  }
}

extension RedirectPolicy.Capture {
  fileprivate init(_ choice: Configuration.Capture) {
    switch choice {
    case .redirect: self = .redirect
    case .tproxy: self = .tproxy
    }
  }
}
