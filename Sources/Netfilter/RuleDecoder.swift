internal import Addressing
internal import CLibnftnl
internal import CLinux
internal import NFTables

/// Turns the kernel's instructions back into expressions: the reverse of `RuleEncoder`.
struct RuleDecoder {
  /// Nil for those that are none of ours.
  private let instructions: [Instruction?]
  /// libnftnl's words for each.
  private let texts: [String]
  private var position = 0

  /// - Parameter rule: an `nftnl_rule` with all that the kernel says of it.
  static func decode(_ rule: OpaquePointer) -> FoundTable.FoundRule {
    var decoder = RuleDecoder(rule)
    return decoder.decode(comment: Self.comment(of: rule), hasMore: Self.hasMore(rule))
  }

  private init(_ rule: OpaquePointer) {
    var instructions: [Instruction?] = []
    var texts: [String] = []
    let iterator = allocated(nftnl_expr_iter_create(rule))
    defer { nftnl_expr_iter_destroy(iterator) }
    while let expression = nftnl_expr_iter_next(iterator) {
      let object = InstructionObject(expression)
      instructions.append(Instruction(object))
      texts.append(object.description)
    }
    self.instructions = instructions
    self.texts = texts
  }

  private mutating func decode(comment: String?, hasMore: Bool) -> FoundTable.FoundRule {
    var expressions: [Expression] = []
    var words: [String] = []
    while position < instructions.count {
      if let (expression, count) = match() {
        expressions.append(expression)
        words.append(expression.description)
        position += count
      } else {
        words.append(texts[position])
        position += 1
      }
    }
    if words.count == expressions.count && !hasMore {
      return .ours(Rule(expressions, comment: comment))
    }
    if let comment { words.append("comment \"\(comment)\"") }
    if hasMore { words.append("[ with more than a comment ]") }
    return .foreign(words.joined(separator: " "))
  }

  // MARK: User data

  private static func userData(of rule: OpaquePointer) -> [UInt8] {
    var count: UInt32 = 0
    guard let start = nftnl_rule_get_data(rule, UInt16(NFTNL_RULE_USERDATA.rawValue), &count)
    else { return [] }
    // SAFETY: libnftnl says how many bytes there are; they are copied while the rule lives.
    return Array(UnsafeRawBufferPointer(start: start, count: Int(count)))
  }

  /// A type, a length and a text that ends with zero.
  private static func comment(of rule: OpaquePointer) -> String? {
    let data = userData(of: rule)
    guard data.count > 2, data[0] == UInt8(NFTNL_UDATA_RULE_COMMENT.rawValue) else { return nil }
    return String(decoding: data[2...].prefix(Int(data[1])).prefix { $0 != 0 }, as: UTF8.self)
  }

  /// Whether there is something that a `Rule` cannot say.
  private static func hasMore(_ rule: OpaquePointer) -> Bool {
    let data = userData(of: rule)
    return data != (comment(of: rule).map(RuleEncoder.userData) ?? [])
      || nftnl_rule_is_set(rule, UInt16(NFTNL_RULE_COMPAT_PROTO.rawValue))
  }

  // MARK: Expressions

  private func at(_ offset: Int) -> Instruction? {
    let index = position + offset
    return index < instructions.count ? instructions[index] : nil
  }

  /// The set that the instruction looks up; nil for another instruction.
  private func lookup(_ offset: Int, _ wanted: Comparison? = nil) -> (Comparison, String)? {
    guard case .lookup(let comparison, let set) = at(offset),
      wanted == nil || comparison == wanted
    else { return nil }
    return (comparison, set)
  }

  /// The expression that begins here, the longest first, and how many instructions it takes.
  private func match() -> (Expression, Int)? {
    switch at(0) {
    case .load(let source): matchLoad(source)
    case .immediate(let bytes, register: UInt32(NFT_REG_1.rawValue)): matchImmediate(bytes)
    case .reject(let reject): (.reject(reject), 1)
    case .verdict(let verdict): (.verdict(verdict), 1)
    case .immediate, .storeMark, .compare, .lookup, .bitwise, .reverseBytes, .redirect, .tproxy,
      nil:
      nil
    }
  }

  private func matchLoad(_ source: Instruction.Source) -> (Expression, Int)? {
    switch source {
    case .interfaceName(let direction): return matchInterface(direction)
    case .interfaceGroup:
      return lookup(1).map { (.interfaceGroup(InterfaceGroupLookup($0, in: $1)), 2) }
    case .linkType:
      guard at(1) == .compare(.equal, RuleEncoder.ethernet), at(2) == .load(.hardwareAddress)
      else { return nil }
      return lookup(3, .equal).map { (.hardwareAddress(HardwareAddressLookup(in: $1)), 4) }
    case .owner(let identity):
      guard at(1) == .reverseBytes else { return nil }
      return lookup(2, .equal).map { (.owner(SocketOwnerLookup(identity, in: $1)), 3) }
    case .controlGroup(let level):
      return lookup(1, .equal).map { (.controlGroup(ControlGroupLookup(level: level, in: $1)), 2) }
    case .family: return matchFamily()
    case .transport: return matchTransport()
    case .mark(let holder): return matchMark(holder)
    case .direction:
      switch at(1) {
      case .compare(.equal, [0]): return (.direction(.original), 2)
      case .compare(.equal, [1]): return (.direction(.reply), 2)
      default: return nil
      }
    case .status:
      let mask = hostBytes(RuleEncoder.translatedSource)
      let none = hostBytes(UInt32(0))
      return at(1) == .bitwise(mask: mask, xor: none) && at(2) == .compare(.notEqual, none)
        ? (.status(.translatedSource), 3) : nil
    case .addressType:
      return lookup(1, .equal).map { (.addressType(AddressTypeLookup(in: $1)), 2) }
    case .transparentSocket:
      return at(1) == .compare(.equal, [1]) ? (.socket(.transparent), 2) : nil
    case .hardwareAddress, .address, .port, .icmpType, .tcpFlags: return nil
    }
  }

  private func matchInterface(_ direction: InterfaceMatch.Direction) -> (Expression, Int)? {
    if let (comparison, set) = lookup(1) {
      return (.interface(InterfaceMatch(direction, comparison, .set(set))), 2)
    }
    guard case .compare(let comparison, let bytes) = at(1),
      let name = interfaceName(bytes), interfaceNameBytes(name) == bytes
    else { return nil }
    return (.interface(InterfaceMatch(direction, comparison, .name(name))), 2)
  }

  private func matchFamily() -> (Expression, Int)? {
    let family: IPFamily
    switch at(1) {
    case .compare(.equal, [UInt8(NFPROTO_IPV4)]): family = .v4
    case .compare(.equal, [UInt8(NFPROTO_IPV6)]): family = .v6
    default: return nil
    }
    if case .load(.address(family, let field)) = at(2), let (comparison, set) = lookup(3) {
      return (.address(AddressLookup(family, field, comparison, in: set)), 4)
    }
    let icmp = UInt8(family == .v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)
    if at(2) == .load(.transport), at(3) == .compare(.equal, [icmp]), at(4) == .load(.icmpType),
      let (_, set) = lookup(5, .equal)
    {
      return (.icmpType(ICMPTypeLookup(family, in: set)), 6)
    }
    return (.family(FamilyMatch(family)), 2)
  }

  private func matchTransport() -> (Expression, Int)? {
    guard case .compare(let comparison, let number) = at(1) else { return nil }
    let transport: TransportMatch.Transport
    let portTransport: PortLookup.Transport?
    switch number {
    case [UInt8(IPPROTO_TCP)]: (transport, portTransport) = (.tcp, .tcp)
    case [UInt8(IPPROTO_UDP)]: (transport, portTransport) = (.udp, .udp)
    case [UInt8(IPPROTO_ICMP)]: (transport, portTransport) = (.icmp, nil)
    case [UInt8(IPPROTO_ICMPV6)]: (transport, portTransport) = (.icmpv6, nil)
    default: return nil
    }
    if comparison == .equal, let portTransport, case .load(.port(let field)) = at(2),
      let (comparison, set) = lookup(3)
    {
      return (.port(PortLookup(portTransport, field, comparison, in: set)), 4)
    }
    if comparison == .equal, transport == .tcp, let flags = matchFlags() { return flags }
    return (.transport(TransportMatch(comparison, transport)), 2)
  }

  private func matchFlags() -> (Expression, Int)? {
    typealias Flags = TCPFlagsMatch.Flags
    guard at(2) == .load(.tcpFlags), case .bitwise(let mask, xor: [0]) = at(3), mask.count == 1,
      case .compare(let comparison, let value) = at(4), value.count == 1
    else { return nil }
    let named: Flags = [.fin, .syn, .rst, .ack]
    let (flags, among) = (Flags(rawValue: value[0]), Flags(rawValue: mask[0]))
    guard named.isSuperset(of: among.union(flags)) else { return nil }
    return (.flags(TCPFlagsMatch(comparison, flags, of: among)), 5)
  }

  private func matchMark(_ holder: MarkHolder) -> (Expression, Int)? {
    guard case .bitwise(let maskBytes, let xorBytes) = at(1),
      let mask = UInt32(hostBytes: maskBytes), let xor = UInt32(hostBytes: xorBytes)
    else { return nil }
    if at(2) == .storeMark(holder) {
      guard xor & mask == 0 else { return nil }
      return (.setMark(MarkAssignment(holder, MaskedMark(xor, mask: ~mask))), 3)
    }
    guard xor == 0, case .compare(.equal, let bytes) = at(2),
      let value = UInt32(hostBytes: bytes), value & ~mask == 0
    else { return nil }
    return (.mark(MarkMatch(holder, MaskedMark(value, mask: mask))), 3)
  }

  private func matchImmediate(_ bytes: [UInt8]) -> (Expression, Int)? {
    if at(1) == .redirect, let port = UInt16(networkBytes: bytes) {
      return (.redirect(Redirect(to: port)), 2)
    }
    guard case .immediate(let portBytes, register: UInt32(NFT_REG_2.rawValue)) = at(1),
      case .tproxy(let family) = at(2), let port = UInt16(networkBytes: portBytes),
      let address = IPAddress(family, networkBytes: bytes)
    else { return nil }
    return (.tproxy(TransparentProxy(to: SocketAddress(address, port))), 3)
  }
}
