internal import NFTables

/// Kernel options behind what a ruleset uses, for the message that names the missing one
/// (`net/netfilter/Kconfig`).
enum Feature {
  static let ownedTables = "tables owned by a process (Linux 5.12)"
  static let policyRouting = "policy routing (CONFIG_IP_MULTIPLE_TABLES)"
  static let sets = "nftables sets (CONFIG_NF_TABLES)"

  static func of(_ chain: Chain) -> String {
    switch chain.base?.kind {
    case .nat: "nat chains (CONFIG_NFT_NAT)"
    case .route: "route chains (CONFIG_NF_TABLES)"
    case .filter, nil: "inet chains (CONFIG_NF_TABLES_INET)"
    }
  }

  /// Of the rule's expressions the one that a kernel most likely lacks.
  static func of(_ rule: Rule) -> String? {
    rule.expressions.compactMap(Self.rare).first
      ?? rule.expressions.compactMap(Self.common).first
  }

  private static func rare(_ expression: Expression) -> String? {
    switch expression {
    case .tproxy: "the tproxy statement (CONFIG_NFT_TPROXY)"
    case .socket: "the socket expression (CONFIG_NFT_SOCKET)"
    case .redirect: "the redirect statement (CONFIG_NFT_REDIR)"
    case .addressType: "the fib expression (CONFIG_NFT_FIB_INET)"
    case .controlGroup: "control groups in the socket expression (Linux 5.13, CONFIG_NFT_SOCKET)"
    case .reject: "the reject statement (CONFIG_NFT_REJECT_INET)"
    case .interface, .interfaceGroup, .hardwareAddress, .owner, .family, .transport, .port,
      .icmpType, .mark, .setMark, .direction, .status, .flags, .address, .verdict:
      nil
    }
  }

  private static func common(_ expression: Expression) -> String? {
    switch expression {
    case .direction, .status: "the ct expression (CONFIG_NFT_CT)"
    case .mark(let match): connectionMarks(match.holder)
    case .setMark(let assignment): connectionMarks(assignment.holder)
    case .interface, .interfaceGroup, .hardwareAddress, .owner, .controlGroup, .family,
      .transport, .port, .icmpType, .flags, .address, .addressType, .socket, .redirect, .tproxy,
      .reject, .verdict:
      nil
    }
  }

  private static func connectionMarks(_ holder: MarkHolder) -> String? {
    holder == .connection ? "connection marks (CONFIG_NF_CONNTRACK_MARK)" : nil
  }
}
