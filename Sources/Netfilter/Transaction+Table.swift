internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import NFTables

// A table's objects as messages. libnftnl's objects live from `alloc` to `free` inside one function;
// running out of memory there is as fatal as it is anywhere in Swift.

extension Transaction {
  /// Deletes the table with all that it holds; that it does not exist is no error.
  mutating func deleteTable(_ name: String) {
    addTable(name, flags: 0)
    tableMessage(
      Operation(name: "delete table \(name)", feature: nil), NFT_MSG_DELTABLE, name, nil, flags: 0)
  }

  /// Adds a table that does not exist, with everything in it.
  /// - Parameter flags: `NFT_TABLE_F_*`.
  mutating func add(_ table: Table, flags: UInt32) {
    addTable(table.name, flags: flags)
    for set in table.sets { add(set, to: table.name) }
    // Rules may name any chain, so that all are there before the first rule.
    for chain in table.chains { add(chain, to: table.name) }
    for chain in table.chains {
      for rule in chain.rules { add(rule, to: chain, in: table.name) }
    }
  }

  private mutating func addTable(_ name: String, flags: UInt32) {
    let feature = flags & UInt32(NFT_TABLE_F_OWNER.rawValue) != 0 ? Feature.ownedTables : nil
    tableMessage(
      Operation(name: "add table \(name)", feature: feature), NFT_MSG_NEWTABLE, name, flags,
      flags: NLM_F_CREATE)
  }

  private mutating func tableMessage(
    _ operation: Operation, _ type: nf_tables_msg_types, _ name: String, _ tableFlags: UInt32?,
    flags: Int32
  ) {
    let object = allocated(nftnl_table_alloc())
    defer { nftnl_table_free(object) }
    nftnl_table_set_u32(object, UInt16(NFTNL_TABLE_FAMILY.rawValue), UInt32(NFPROTO_INET))
    nftnl_table_set_str(object, UInt16(NFTNL_TABLE_NAME.rawValue), name)
    if let tableFlags, tableFlags != 0 {
      nftnl_table_set_u32(object, UInt16(NFTNL_TABLE_FLAGS.rawValue), tableFlags)
    }
    append(operation, type: type, flags: flags) { nftnl_table_nlmsg_build_payload($0, object) }
  }

  private mutating func add(_ chain: Chain, to table: String) {
    let object = allocated(nftnl_chain_alloc())
    defer { nftnl_chain_free(object) }
    nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TABLE.rawValue), table)
    nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_NAME.rawValue), chain.name)
    if let base = chain.base {
      nftnl_chain_set_str(object, UInt16(NFTNL_CHAIN_TYPE.rawValue), base.kind.rawValue)
      nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue), base.hook.number)
      nftnl_chain_set_s32(object, UInt16(NFTNL_CHAIN_PRIO.rawValue), base.priority.rawValue)
      nftnl_chain_set_u32(object, UInt16(NFTNL_CHAIN_POLICY.rawValue), UInt32(NF_ACCEPT))
    }
    append(
      Operation(name: "add chain \(chain.name)", feature: Feature.of(chain)),
      type: NFT_MSG_NEWCHAIN, flags: NLM_F_CREATE
    ) { nftnl_chain_nlmsg_build_payload($0, object) }
  }

  private mutating func add(_ rule: Rule, to chain: Chain, in table: String) {
    let object = allocated(nftnl_rule_alloc())
    defer { nftnl_rule_free(object) }
    nftnl_rule_set_u32(object, UInt16(NFTNL_RULE_FAMILY.rawValue), UInt32(NFPROTO_INET))
    nftnl_rule_set_str(object, UInt16(NFTNL_RULE_TABLE.rawValue), table)
    nftnl_rule_set_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue), chain.name)
    RuleEncoder(rule: object).encode(rule)
    append(
      Operation(name: "add rule \(chain.name) \(rule)", feature: Feature.of(rule)),
      type: NFT_MSG_NEWRULE, flags: NLM_F_CREATE | NLM_F_APPEND
    ) { nftnl_rule_nlmsg_build_payload($0, object) }
  }
}

/// A libnftnl object, which is nil only when there is no memory.
func allocated(_ object: OpaquePointer?) -> OpaquePointer {
  guard let object else { preconditionFailure("out of memory") }
  return object
}

extension Chain.Hook {
  /// `NF_INET_*`.
  var number: UInt32 {
    let hook =
      switch self {
      case .prerouting: NF_INET_PRE_ROUTING
      case .input: NF_INET_LOCAL_IN
      case .forward: NF_INET_FORWARD
      case .output: NF_INET_LOCAL_OUT
      case .postrouting: NF_INET_POST_ROUTING
      }
    return UInt32(hook.rawValue)
  }
}
