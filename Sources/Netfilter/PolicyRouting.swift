internal import CLibmnl
internal import CLinux
internal import LinuxIO
internal import NFTables
internal import RedirectPolicy

/// Our rules and routes of policy routing (`rtnetlink(7)`). The kernel keeps them when the process
/// dies; what bears our protocol number, table and priority is ours, and nothing else is touched.
struct PolicyRouting: ~Copyable {
  /// A rule or route in the kernel.
  struct Entry {
    enum Content: Hashable, Sendable {
      case rule(RoutingPlan.Rule)
      case route(RoutingPlan.Route)
      /// Ours by its numbers, but not what this version makes.
      case other
    }

    let content: Content
    /// What takes it away: the message that described it, as a request to delete.
    let deletion: [UInt8]
  }

  private let socket: NetlinkSocket

  init() throws(NetfilterError) {
    do {
      socket = try NetlinkSocket(NETLINK_ROUTE)
    } catch {
      throw .failed(operation: "open a routing socket", error)
    }
  }

  /// Adds what is missing of `plan`; after a failure everything is as it was.
  /// - Returns: what was added, for `remove`.
  func add(_ plan: RoutingPlan) throws(NetfilterError) -> RoutingPlan {
    var added = RoutingPlan()
    if plan.rules.isEmpty && plan.routes.isEmpty { return added }
    let present = Set(try entries().map(\.content))
    do {
      for route in plan.routes where !present.contains(.route(route)) {
        if try add(route.addition, route.family, "add \(route.text)") { added.routes.append(route) }
      }
      for rule in plan.rules where !present.contains(.rule(rule)) {
        if try add(rule.addition, rule.family, "add \(rule.text)") { added.rules.append(rule) }
      }
    } catch {
      remove(added)
      throw error
    }
    return added
  }

  /// Takes back what `add` returned.
  func remove(_ plan: RoutingPlan) {
    let contents = plan.rules.map(Entry.Content.rule) + plan.routes.map(Entry.Content.route)
    for entry in (try? entries()) ?? [] where contents.contains(entry.content) {
      _ = try? socket.acknowledgements(to: entry.deletion, count: 1)
    }
  }

  /// Deletes every rule and route of ours that `plan` does not have: those of earlier plans, and what
  /// a killed run left.
  func removeAll(except plan: RoutingPlan) throws(NetfilterError) {
    let wanted = Set(
      plan.rules.map(Entry.Content.rule) + plan.routes.map(Entry.Content.route))
    for entry in try entries() where !wanted.contains(entry.content) {
      let error = try acknowledgement(to: entry.deletion, "delete \(entry.content.text)")
      if let error, error != .noEntry, error != .noProcess {
        throw .failed(operation: "delete \(entry.content.text)", error)
      }
    }
  }

  /// What there is of ours, rules first.
  func contents() throws(NetfilterError) -> [Entry.Content] { try entries().map(\.content) }

  /// What `add` can put in place of a plan: of IPv6 nothing where there is none, and no route where
  /// it is disabled on the loopback interface.
  static func possible(_ plan: RoutingPlan) -> RoutingPlan {
    let disabled = Sysctl("net.ipv6.conf.lo.disable_ipv6").value
    if disabled == "0" { return plan }
    return RoutingPlan(
      rules: plan.rules.filter { $0.family == .v4 || disabled != nil },
      routes: plan.routes.filter { $0.family == .v4 })
  }

  // MARK: Pieces

  /// What the kernel says where there is no IPv6, or where it is disabled.
  static let withoutIPv6: Set<Errno> = [.familyNotSupported, .notSupported, .accessDenied]

  /// Whether it was added. A host without IPv6 has no such packets to route; were there any, the
  /// ruleset's guard would drop them.
  private func add(_ message: [UInt8], _ family: IPFamily, _ operation: String)
    throws(NetfilterError) -> Bool
  {
    switch try acknowledgement(to: message, operation) {
    case nil:
      return true
    case let error? where family == .v6 && Self.withoutIPv6.contains(error):
      return false
    case .notPermitted?:
      throw .notPermitted
    case let error? where error == .familyNotSupported || error == .notSupported:
      throw .unsupported(feature: Feature.policyRouting, error)
    case let error?:
      throw .failed(operation: operation, error)
    }
  }

  private func acknowledgement(to message: [UInt8], _ operation: String) throws(NetfilterError)
    -> Errno?
  {
    do {
      return try socket.acknowledgements(to: message, count: 1).first?.error
    } catch {
      throw .failed(operation: operation, error)
    }
  }

  /// Ours of both families, rules first: they are deleted before the routes that they lead to.
  private func entries() throws(NetfilterError) -> [Entry] {
    var entries: [Entry] = []
    for (request, parse) in [
      (RoutingMessage.ruleDump, RoutingMessage.ourRule),
      (RoutingMessage.routeDump, RoutingMessage.ourRoute),
    ] {
      for family in [IPFamily.v4, .v6] {
        entries += try dump(request(family)).compactMap(parse)
      }
    }
    return entries
  }

  private func dump(_ request: [UInt8]) throws(NetfilterError) -> [[UInt8]] {
    do {
      return try socket.dump(request)
    } catch {
      throw .failed(operation: "list the policy routing", error)
    }
  }
}

extension RoutingPlan.Rule {
  /// As `ip rule` lists it.
  var text: String {
    let from = inputInterface.map { " iif \($0)" } ?? ""
    let marked = mark.map { " fwmark \(hex($0.value))/\(hex($0.mask))" } ?? ""
    let target =
      switch action {
      case .lookup(let table): "lookup \(table)"
      case .goto(let priority): "goto \(priority)"
      case .nothing: "nop"
      }
    return "ip\(family.option) rule priority \(priority)\(marked)\(from) \(target)"
  }
}

extension RoutingPlan.Route {
  /// As `ip route` takes it.
  var text: String { "ip\(family.option) route local default dev lo table \(table)" }
}

extension IPFamily {
  /// What iproute2 wants for IPv6.
  fileprivate var option: String { self == .v4 ? "" : " -6" }
}

private func hex(_ value: UInt32) -> String { "0x" + String(value, radix: 16) }

extension PolicyRouting.Entry.Content {
  var text: String {
    switch self {
    case .rule(let rule): rule.text
    case .route(let route): route.text
    case .other: "entry of protocol \(RoutingPlan.protocolNumber)"
    }
  }
}
