internal import CLibmnl
internal import CLibnftnl
internal import CLinux
package import LinuxIO
package import NFTables
package import RedirectPolicy

/// Puts the rules and routes of a policy into the kernel of this network namespace, and takes them
/// away again.
package final class RuleInstaller {
  package enum Ownership: Sendable {
    /// The table belongs to this process (`NFT_TABLE_F_OWNER`): nobody else may change it, and the
    /// kernel removes it when the process ends, however that happens; unless somebody else keeps a copy
    /// of `RuleInstaller.descriptor`.
    case process
    /// The table stays until somebody deletes it.
    case none
  }

  /// The table belongs to this socket, which therefore lives as long as the installer.
  let nftables: NetlinkSocket
  let routing: PolicyRouting
  private let ownership: Ownership
  /// What this installer has put in place last.
  private var installed: Installation?
  /// Tells what others change.
  package let watch: RuleWatch

  /// Changes nothing yet.
  /// - Parameter owner: the socket that an earlier installer's table belongs to, and so to this one
  ///   from now on; nil: a new one.
  package init(
    ownership: Ownership, continuing owner: consuming Descriptor? = nil
  ) throws(NetfilterError) {
    do {
      if let owner = consume owner {
        nftables = try NetlinkSocket(adopting: owner)
      } else {
        nftables = try NetlinkSocket(NETLINK_NETFILTER)
      }
    } catch {
      throw .unsupported(feature: "netfilter's netlink interface (CONFIG_NETFILTER_NETLINK)", error)
    }
    routing = try PolicyRouting()
    do {
      watch = try RuleWatch()
    } catch {
      throw .failed(operation: "watch for changes of rules and routes", error)
    }
    self.ownership = ownership
  }

  /// What an owned table belongs to, for whoever is to keep it after this process.
  package var descriptor: Int32 { nftables.rawValue }

  /// Installs the policy, or replaces with it what was installed before: open flows that were captured
  /// go on, and at no moment is a packet met by half of the rules. Where only elements of sets differ
  /// from what this installer has put in place, only those are changed.
  ///
  /// Unowned tables of our names and the routing that a killed run left are replaced, too. After a
  /// failure nothing is left behind; an earlier installation stays as it was.
  package func install(_ policy: RedirectPolicy) throws(NetfilterError) {
    try put(Installation(policy), changing: installed)
  }

  /// Installs the policy anew, whatever others have made of it.
  package func restore(_ policy: RedirectPolicy) throws(NetfilterError) {
    try put(Installation(policy), changing: nil)
  }

  /// Installs a table of the caller's, with routing, beside or without a policy; `remove` takes away
  /// the routing, and the table goes with this installer if that owns it.
  package func install(_ table: Table, _ plan: RoutingPlan) throws(NetfilterError) {
    _ = try routing.add(plan)
    var transaction = Transaction()
    transaction.add(table, flags: tableFlags)
    try commit(transaction)
  }

  /// Who owns the table `sluice`: a netlink port, which is mostly a process id, zero for nobody; nil if
  /// there is no such table.
  package func holder() throws(NetfilterError) -> UInt32? {
    try nftables.owner(of: RedirectPolicy.tableName)
  }

  /// Puts back what was there when `state` was read, which has nothing foreign.
  package func restore(_ state: KernelState) throws(NetfilterError) {
    precondition(state.foreign.isEmpty, "a state that cannot be made")
    try checkHolder()
    let added = try routing.add(state.routingPlan)
    do {
      var transaction = Transaction()
      for (name, found) in state.tables {
        transaction.deleteTable(name)
        if let found { transaction.add(found.table, flags: 0) }
      }
      try commit(transaction)
    } catch {
      routing.remove(added)
      throw error
    }
    try routing.removeAll(except: state.routingPlan)
    installed = nil
  }

  /// Installs only the table that rejects what the policy would capture, if it has one: nothing leaves
  /// from here on, but nothing is captured either.
  package func installGuard(_ policy: RedirectPolicy) throws(NetfilterError) {
    guard let table = policy.guardTable() else { return }
    try checkHolder()
    var transaction = Transaction()
    transaction.deleteTable(RedirectPolicy.guardTableName)
    transaction.add(table, flags: 0)
    try commit(transaction)
  }

  /// Adds what is missing of the rules and routes of policy routing.
  /// - Returns: what it was, as `ip rule` and `ip route` list it.
  package func restoreRouting() throws(NetfilterError) -> [String] {
    guard let installed else { return [] }
    let added = try routing.add(installed.routing)
    return added.rules.map(\.text) + added.routes.map(\.text)
  }

  /// Takes away the tables, the rules of policy routing and the routes, whoever left them; does nothing
  /// if there are none.
  /// - Parameter keepsGuard: leaves the table that rejects what would have been captured.
  package func remove(keepsGuard: Bool = false) throws(NetfilterError) {
    try checkHolder()
    var transaction = Transaction()
    transaction.deleteTable(RedirectPolicy.tableName)
    if !keepsGuard { transaction.deleteTable(RedirectPolicy.guardTableName) }
    try commit(transaction)
    try routing.removeAll(except: RoutingPlan())
    installed = nil
  }

  /// Has the flows that a policy captured begin anew, once it is removed. A kernel that does not let us only
  /// has them end in their own time.
  ///
  /// Of datagrams: while they were captured nothing translated them, and connection tracking decides that with
  /// the first packet of a flow; on a gateway that translates the addresses of its LAN they would leave with
  /// those as long as they go on. Of connections that have ended: as long as TPROXY's side waits (TIME_WAIT),
  /// the kernel drops what is to be forwarded between the same addresses and ports, since it belongs to a socket
  /// (`ip_forward` in net/ipv4/ip_forward.c); a client that uses a port again would not get through.
  package func forgetFlows(of policy: RedirectPolicy) {
    let mark = policy.numbers.marks.machine
    guard let flows = try? ConnectionTracking.flows(marked: mark, by: nftables),
      let diagnosis = try? SocketDiagnosis()
    else { return }
    for flow in flows {
      switch flow.transport {
      case .datagrams: try? ConnectionTracking.forget(flow, by: nftables)
      case .endedConnection: diagnosis.destroyConnection(at: flow.destination, to: flow.source)
      }
    }
  }

  // MARK: Pieces

  /// - Parameter previous: what is known to be in place, nil if that is not known.
  private func put(_ next: Installation, changing previous: Installation?) throws(NetfilterError) {
    try checkHolder()
    // Routing before the rules and after them, so that what they mark always has a way to go.
    let added = try routing.add(next.routing)
    do {
      try commitUnwatched(transaction(to: next, from: previous), of: next)
    } catch {
      routing.remove(added)
      throw error
    }
    do {
      try routing.removeAll(except: next.routing)
    } catch {
      if installed == nil { try? remove() }
      throw error
    }
    installed = next
  }

  /// Commits, and watches the tables from then on if somebody else can change one: the one that captures
  /// is ours alone. What others did in between is undone by committing once more.
  private func commitUnwatched(
    _ transaction: Transaction, of next: Installation
  ) throws(NetfilterError) {
    try watch.watchTables(false)
    let before: UInt32
    do {
      before = try nftables.generation()
      try commit(transaction)
    } catch {
      // What was in place goes on, and has to be watched as before.
      if installed?.guardTable != nil { try watch.watchTables(true) }
      throw error
    }
    guard next.guardTable != nil else { return }
    try watch.watchTables(true)
    if try nftables.generation() != before &+ 1 {
      try commit(self.transaction(to: next, from: nil))
    }
  }

  private func transaction(to next: Installation, from previous: Installation?) -> Transaction {
    var transaction = Transaction()
    if let previous, let changes = next.elementChanges(from: previous) {
      for change in changes { transaction.apply(change) }
      return transaction
    }
    transaction.deleteTable(RedirectPolicy.guardTableName)
    if let table = next.guardTable { transaction.add(table, flags: 0) }
    transaction.deleteTable(RedirectPolicy.tableName)
    transaction.add(next.table, flags: tableFlags)
    return transaction
  }

  private var tableFlags: UInt32 {
    switch ownership {
    case .process: UInt32(NFT_TABLE_F_OWNER.rawValue)
    case .none: 0
    }
  }

  private func commit(_ transaction: consuming Transaction) throws(NetfilterError) {
    do {
      try transaction.commit(on: nftables)
    } catch {
      if error.errno == .notPermitted {
        try checkHolder()
        throw .notPermitted
      }
      throw NetfilterError(error)
    }
  }

  /// Throws if the table belongs to somebody else, so that nothing of theirs is touched.
  private func checkHolder() throws(NetfilterError) {
    guard let holder = try holder(), holder != 0,
      holder != nftables.portID
    else { return }
    throw .heldByAnother(portID: holder)
  }
}

extension NetfilterError {
  fileprivate init(_ error: TransactionError) {
    let operation = error.operation
    switch error.errno {
    case .noEntry, .notSupported, .familyNotSupported:
      if let feature = operation.feature {
        self = .unsupported(feature: feature, error.errno)
      } else {
        self = .failed(operation: operation.name, error.errno)
      }
    default:
      self = .failed(operation: operation.name, error.errno)
    }
  }
}
