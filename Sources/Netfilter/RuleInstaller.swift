internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import LinuxIO
internal import NFTables
package import RedirectPolicy

/// Puts the rules and routes of a policy into the kernel of this network namespace, and takes them
/// away again.
package final class RuleInstaller {
  package enum Ownership: Sendable {
    /// The table belongs to this process (`NFT_TABLE_F_OWNER`): nobody else may change it, and the
    /// kernel removes it when the process ends, however that happens.
    case process
    /// The table stays until somebody deletes it.
    case none
  }

  /// The table belongs to this socket, which therefore lives as long as the installer.
  private let nftables: NetlinkSocket
  private let routing: PolicyRouting
  private let ownership: Ownership
  private var hasInstalled = false

  /// Changes nothing yet.
  package init(ownership: Ownership) throws(NetfilterError) {
    do {
      nftables = try NetlinkSocket(NETLINK_NETFILTER)
    } catch {
      throw .unsupported(feature: "netfilter's netlink interface (CONFIG_NETFILTER_NETLINK)", error)
    }
    routing = try PolicyRouting()
    self.ownership = ownership
  }

  /// Installs the policy, or replaces with it what was installed before: open flows that were captured
  /// go on, and at no moment is a packet met by half of the rules.
  ///
  /// An unowned table of our name and the routing that a killed run left are replaced, too. After a
  /// failure nothing is left behind; an earlier installation stays as it was.
  package func install(_ policy: RedirectPolicy) throws(NetfilterError) {
    try checkHolder()
    // Routing before the rules and after them, so that what they mark always has a way to go.
    let plan = policy.routing()
    let added = try routing.add(plan)
    do {
      var transaction = Transaction()
      transaction.deleteTable(RedirectPolicy.tableName)
      transaction.add(policy.table(), flags: tableFlags)
      try commit(transaction)
    } catch {
      routing.remove(added)
      throw error
    }
    do {
      try routing.removeAll(except: plan)
    } catch {
      if !hasInstalled { try? remove() }
      throw error
    }
    hasInstalled = true
  }

  /// Takes away the table, the rules of policy routing and the routes, whoever left them; does nothing
  /// if there are none.
  package func remove() throws(NetfilterError) {
    if try holder() != nil {
      try checkHolder()
      var transaction = Transaction()
      transaction.deleteTable(RedirectPolicy.tableName)
      try commit(transaction)
    }
    try routing.removeAll(except: RoutingPlan(rules: [], routes: []))
    hasInstalled = false
  }

  // MARK: Pieces

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
    guard let holder = try holder(), holder != 0, holder != nftables.portID else { return }
    throw .heldByAnother(portID: holder)
  }

  /// Who owns the table: a netlink port, zero for nobody; nil if there is no table.
  private func holder() throws(NetfilterError) -> UInt32? {
    let answers: [[UInt8]]
    do {
      answers = try nftables.answers(to: Self.tableRequest)
    } catch .noEntry {
      return nil
    } catch .notPermitted {
      throw .notPermitted
    } catch {
      throw .unsupported(feature: "nftables (CONFIG_NF_TABLES)", error)
    }
    guard let answer = answers.first else { return nil }
    let object = allocated(nftnl_table_alloc())
    defer { nftnl_table_free(object) }
    return answer.withUnsafeBytes { bytes in
      // SAFETY: the bytes are one whole message, whose header states their count; an array's storage is
      // aligned for it.
      guard let header = bytes.baseAddress?.assumingMemoryBound(to: nlmsghdr.self),
        nftnl_table_nlmsg_parse(header, object) == 0,
        nftnl_table_is_set(object, UInt16(NFTNL_TABLE_OWNER.rawValue))
      else { return 0 }
      return nftnl_table_get_u32(object, UInt16(NFTNL_TABLE_OWNER.rawValue))
    }
  }

  /// Asks for the table by its name.
  private static var tableRequest: [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in
      let object = allocated(nftnl_table_alloc())
      defer { nftnl_table_free(object) }
      nftnl_table_set_str(object, UInt16(NFTNL_TABLE_NAME.rawValue), RedirectPolicy.tableName)
      // SAFETY: two headers and a short name fit; the header's length says what is initialised.
      let header = buffer.withMemoryRebound(to: CChar.self) {
        nftnl_nlmsg_build_hdr(
          $0.baseAddress, UInt16(NFT_MSG_GETTABLE.rawValue), UInt16(NFPROTO_INET), 0, 0)
      }
      guard let header else { preconditionFailure("libnftnl gave no header") }
      nftnl_table_nlmsg_build_payload(header, object)
      count = Int(header.pointee.nlmsg_len)
    }
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
