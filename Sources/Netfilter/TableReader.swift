internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import LinuxIO
internal import NFTables

/// Reads a table of family `inet` with all that it holds.
struct TableReader {
  private let name: String
  /// Of what the kernel had when it answered (`res_id` of <linux/netfilter/nfnetlink.h>): the low bits of
  /// a number that each change of any table increases.
  private var generations: Set<UInt16> = []
  /// Names of the sets that go with a rule.
  private var anonymousSets: Set<String> = []

  /// Nil if there is no such table.
  static func read(_ name: String, from socket: borrowing NetlinkSocket) throws(NetfilterError)
    -> FoundTable?
  {
    for _ in 0..<maximumAttempts {
      var reader = TableReader(name: name)
      do {
        let table = try reader.read(from: socket)
        if reader.generations.count <= 1 { return table }
      } catch .notPermitted {
        throw .notPermitted
      } catch .noEntry {
        // A set went away while it was read.
        continue
      } catch {
        throw .failed(operation: "read table \(name)", error)
      }
    }
    throw .failed(operation: "read table \(name), which changes all the time", .interrupted)
  }

  private init(name: String) { self.name = name }

  /// A reading is repeated when somebody has changed any table meanwhile.
  private static let maximumAttempts = 100

  private mutating func read(from socket: borrowing NetlinkSocket) throws(Errno) -> FoundTable? {
    let described: [[UInt8]]
    do {
      described = try answers(.table(name), socket)
    } catch .noEntry {
      return nil
    }
    guard let description = described.first else { return nil }
    var remarks: [String] = []
    var objects: UInt32 = 0
    parse(description, nftnl_table_alloc, nftnl_table_free, nftnl_table_nlmsg_parse) {
      object, isWhole in
      (remarks, objects) = Self.remarks(object)
      if !isWhole { remarks.append(Self.unreadable) }
    }
    let (sets, setCount) = try readSets(socket)
    let chains = try readChains(socket)
    if objects > setCount + chains.count {
      remarks.append("[ objects or flow tables ]")
    }
    return FoundTable(name, remarks: remarks, sets: sets, chains: chains)
  }

  /// Sends a request and keeps the generation of the answers.
  mutating func answers(_ request: ReadRequest, _ socket: borrowing NetlinkSocket)
    throws(Errno) -> [[UInt8]]
  {
    let answers = try socket.answers(to: request.bytes)
    for answer in answers {
      guard answer.count >= Self.generationOffset + 2 else { continue }
      generations.insert(
        answer.withUnsafeBytes {
          $0.loadUnaligned(fromByteOffset: Self.generationOffset, as: UInt16.self)
        })
    }
    return answers
  }

  /// Stands for what this libnftnl does not know, as of a newer kernel.
  private static let unreadable = "[ something that libnftnl cannot read ]"
  /// Of `res_id` behind the netlink header and two bytes of `struct nfgenmsg`.
  private static let generationOffset = MemoryLayout<nlmsghdr>.size + 2

  // MARK: Tables and chains

  /// What a `Table` does not say, and the number of sets, chains and other objects.
  private static func remarks(_ table: OpaquePointer) -> ([String], UInt32) {
    var remarks: [String] = []
    let (dormant, owner) = (
      UInt32(NFT_TABLE_F_DORMANT.rawValue), UInt32(NFT_TABLE_F_OWNER.rawValue)
    )
    let flags = nftnl_table_get_u32(table, UInt16(NFTNL_TABLE_FLAGS.rawValue))
    if flags & dormant != 0 { remarks.append("flags dormant") }
    let others = flags & ~(dormant | owner)
    if others != 0 { remarks.append("flags [ \(others) ]") }
    if nftnl_table_is_set(table, UInt16(NFTNL_TABLE_USERDATA.rawValue)) {
      remarks.append("[ user data ]")
    }
    return (remarks, nftnl_table_get_u32(table, UInt16(NFTNL_TABLE_USE.rawValue)))
  }

  private mutating func readChains(_ socket: borrowing NetlinkSocket) throws(Errno)
    -> [FoundTable.FoundChain]
  {
    let rules = try readRules(socket)
    var chains: [FoundTable.FoundChain] = []
    for message in try answers(.chains, socket) {
      parse(message, nftnl_chain_alloc, nftnl_chain_free, nftnl_chain_nlmsg_parse) {
        object, isWhole in
        guard text(nftnl_chain_get_str(object, UInt16(NFTNL_CHAIN_TABLE.rawValue))) == name
        else { return }
        let chain = text(nftnl_chain_get_str(object, UInt16(NFTNL_CHAIN_NAME.rawValue)))
        var (base, remarks) = Self.base(object)
        if !isWhole { remarks.append(Self.unreadable) }
        chains.append(
          FoundTable.FoundChain(chain, base, remarks: remarks, rules: rules[chain] ?? []))
      }
    }
    return chains
  }

  /// The hook, and what a `Chain` does not say.
  private static func base(_ chain: OpaquePointer) -> (Chain.Base?, [String]) {
    var remarks: [String] = []
    for (attribute, remark) in [
      (NFTNL_CHAIN_USERDATA, "[ user data ]"), (NFTNL_CHAIN_PACKETS, "[ counter ]"),
      (NFTNL_CHAIN_DEV, "[ device ]"), (NFTNL_CHAIN_DEVICES, "[ devices ]"),
    ] where nftnl_chain_is_set(chain, UInt16(attribute.rawValue)) {
      remarks.append(remark)
    }
    let usual = UInt32(NFT_CHAIN_BASE.rawValue)
    let flags = nftnl_chain_get_u32(chain, UInt16(NFTNL_CHAIN_FLAGS.rawValue)) & ~usual
    if flags != 0 { remarks.append("[ flags \(flags) ]") }
    guard nftnl_chain_is_set(chain, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue)) else {
      return (nil, remarks)
    }
    if nftnl_chain_get_u32(chain, UInt16(NFTNL_CHAIN_POLICY.rawValue)) != UInt32(NF_ACCEPT) {
      remarks.append("policy drop;")
    }
    let kind = text(nftnl_chain_get_str(chain, UInt16(NFTNL_CHAIN_TYPE.rawValue)))
    let number = nftnl_chain_get_u32(chain, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue))
    let priority = nftnl_chain_get_s32(chain, UInt16(NFTNL_CHAIN_PRIO.rawValue))
    guard let known = Chain.Kind(rawValue: kind),
      let hook = Chain.Hook.allCases.first(where: { $0.number == number })
    else {
      return (nil, remarks + ["type \(kind) hook [ \(number) ] priority \(priority);"])
    }
    return (Chain.Base(known, hook, Chain.Priority(rawValue: priority)), remarks)
  }

  /// By chain.
  private mutating func readRules(_ socket: borrowing NetlinkSocket) throws(Errno)
    -> [String: [FoundTable.FoundRule]]
  {
    var rules: [String: [FoundTable.FoundRule]] = [:]
    for message in try answers(.rules(name), socket) {
      parse(message, nftnl_rule_alloc, nftnl_rule_free, nftnl_rule_nlmsg_parse) {
        object, isWhole in
        guard text(nftnl_rule_get_str(object, UInt16(NFTNL_RULE_TABLE.rawValue))) == name
        else { return }
        let chain = text(nftnl_rule_get_str(object, UInt16(NFTNL_RULE_CHAIN.rawValue)))
        rules[chain, default: []].append(
          isWhole ? checked(RuleDecoder.decode(object)) : .foreign(Self.unreadable))
      }
    }
    return rules
  }

  /// A rule with an anonymous set is none of ours, though its expressions are.
  private func checked(_ rule: FoundTable.FoundRule) -> FoundTable.FoundRule {
    guard case .ours(let ours) = rule,
      ours.expressions.contains(where: { $0.set.map(anonymousSets.contains) ?? false })
    else { return rule }
    return .foreign(ours.description)
  }

  // MARK: Sets

  /// Those with a name of their own, and how many there are in all.
  private mutating func readSets(_ socket: borrowing NetlinkSocket) throws(Errno)
    -> ([FoundTable.FoundSet], Int)
  {
    var sets: [FoundTable.FoundSet] = []
    let messages = try answers(.sets(name), socket)
    for message in messages {
      var header: SetHeader?
      parse(message, nftnl_set_alloc, nftnl_set_free, nftnl_set_nlmsg_parse) { object, isWhole in
        header = SetHeader(object, remarks: isWhole ? [] : [Self.unreadable])
      }
      guard let header else { continue }
      if header.isAnonymous {
        anonymousSets.insert(header.name)
        continue
      }
      var contents = SetContents(isInterval: header.isInterval)
      for elements in try answers(.elements(name, of: header.name), socket) {
        parse(elements, nftnl_set_alloc, nftnl_set_free, nftnl_set_elems_nlmsg_parse) {
          object, isWhole in
          contents.add(object, remarks: isWhole ? [] : [Self.unreadable])
        }
      }
      sets.append(header.set(contents))
    }
    return (sets, messages.count)
  }
}

/// Lets libnftnl take a message apart and hands over the object, and whether that is all of it: what
/// libnftnl does not know is missing, but not the names before it.
private func parse(
  _ message: [UInt8], _ allocate: () -> OpaquePointer?, _ free: (OpaquePointer) -> Void,
  _ parse: (UnsafePointer<nlmsghdr>, OpaquePointer) -> Int32,
  _ handle: (OpaquePointer, Bool) -> Void
) {
  let object = allocated(allocate())
  defer { free(object) }
  let isWhole = message.withUnsafeBytes { bytes in
    // SAFETY: the bytes are one whole message, whose header states their count; an array's storage is
    // aligned for it.
    guard let header = bytes.baseAddress?.assumingMemoryBound(to: nlmsghdr.self) else {
      return false
    }
    return parse(header, object) == 0
  }
  handle(object, isWhole)
}

/// A text of libnftnl, copied; empty if there is none.
func text(_ pointer: UnsafePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }
