internal import Addressing
internal import Configuration
internal import DataPlane
internal import RedirectPolicy

/// From settings to the rules that capture and the listeners that receive what they capture.
struct Scope {
  let policy: RedirectPolicy

  init(_ configuration: Configuration, upstreams: [IPAddress]) {
    let capture = Self.capture(configuration.tcp)
    policy = RedirectPolicy(
      machine: configuration.machine ? capture : nil,
      gateway: configuration.gateways.isEmpty
        ? nil
        : RedirectPolicy.Gateway(
          interfaces: configuration.gateways, capture: capture),
      ports: RedirectPolicy.Ports(redirect: configuration.port, tproxy: configuration.port + 1),
      upstreams: upstreams,
      bypass: configuration.bypass,
      proxyPrivate: configuration.proxyPrivate,
      phase: .capturing)
  }

  /// `tproxy` is the cheaper one in either scope: no address translation. Per short connection
  /// `redirect` takes 1.1 times the CPU of the whole system for a machine's own traffic, and as much
  /// or a little more for a LAN's.
  private static func capture(_ choice: Configuration.Capture?) -> RedirectPolicy.Capture {
    switch choice {
    case .redirect: .redirect
    case .tproxy, nil: .tproxy
    }
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
