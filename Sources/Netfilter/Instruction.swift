internal import Addressing
internal import CLibnftnl
internal import CLinux
internal import NFTables

/// One instruction of a rule in the kernel, as far as `RuleEncoder` makes such; all but `tproxy` use
/// register 1 alone.
enum Instruction: Hashable {
  /// What is put into register 1.
  enum Source: Hashable {
    case interfaceName(InterfaceMatch.Direction)
    case interfaceGroup
    case linkType
    case owner(SocketOwnerLookup.Identity)
    case family
    case transport
    case mark(MarkHolder)
    case direction
    case status
    case hardwareAddress
    case address(IPFamily, AddressLookup.Field)
    case port(PortLookup.Field)
    case icmpType
    case tcpFlags
    case addressType
    case transparentSocket
    case controlGroup(level: UInt32)
  }

  case load(Source)
  case storeMark(MarkHolder)
  case compare(Comparison, [UInt8])
  case lookup(Comparison, set: String)
  case bitwise(mask: [UInt8], xor: [UInt8])
  /// Of four bytes from the host's order to the network's.
  case reverseBytes
  case immediate([UInt8], register: UInt32)
  case redirect
  case tproxy(IPFamily)
  case reject(Reject)
  case verdict(Verdict)
}

extension Instruction {
  /// Nil for one that `RuleEncoder` does not make.
  init?(_ object: InstructionObject) {
    guard let instruction = Self.decode(object) else { return nil }
    self = instruction
  }

  private static let register1 = UInt32(NFT_REG_1.rawValue)
  private static let register2 = UInt32(NFT_REG_2.rawValue)
  /// NFT_BITWISE_BOOL, which newer headers call NFT_BITWISE_MASK_XOR.
  private static let maskAndXor: UInt32 = 0

  private static func decode(_ object: InstructionObject) -> Instruction? {
    switch object.name {
    case "meta": meta(object)
    case "ct": connection(object)
    case "payload": payload(object)
    case "fib": addressType(object)
    case "socket": socket(object)
    case "cmp": comparison(object)
    case "lookup": lookup(object)
    case "bitwise": bitwise(object)
    case "byteorder": byteOrder(object)
    case "immediate": immediate(object)
    case "redir": redirect(object)
    case "tproxy": tproxy(object)
    case "reject": reject(object)
    default: nil
    }
  }

  // MARK: Loads and stores

  private static func meta(_ object: InstructionObject) -> Instruction? {
    let key = object.number(NFTNL_EXPR_META_KEY)
    if object.has(only: [NFTNL_EXPR_META_KEY, NFTNL_EXPR_META_SREG]) {
      let isMark = key == NFT_META_MARK.rawValue
      return isMark && object.number(NFTNL_EXPR_META_SREG) == register1 ? .storeMark(.packet) : nil
    }
    guard object.has(only: [NFTNL_EXPR_META_KEY, NFTNL_EXPR_META_DREG]),
      object.number(NFTNL_EXPR_META_DREG) == register1
    else { return nil }
    return switch key {
    case NFT_META_IIFNAME.rawValue: .load(.interfaceName(.input))
    case NFT_META_OIFNAME.rawValue: .load(.interfaceName(.output))
    case NFT_META_IIFGROUP.rawValue: .load(.interfaceGroup)
    case NFT_META_IFTYPE.rawValue: .load(.linkType)
    case NFT_META_SKUID.rawValue: .load(.owner(.user))
    case NFT_META_SKGID.rawValue: .load(.owner(.group))
    case NFT_META_NFPROTO.rawValue: .load(.family)
    case NFT_META_L4PROTO.rawValue: .load(.transport)
    case NFT_META_MARK.rawValue: .load(.mark(.packet))
    default: nil
    }
  }

  private static func connection(_ object: InstructionObject) -> Instruction? {
    let key = object.number(NFTNL_EXPR_CT_KEY)
    if object.has(only: [NFTNL_EXPR_CT_KEY, NFTNL_EXPR_CT_SREG]) {
      let isMark = key == NFT_CT_MARK.rawValue
      return isMark && object.number(NFTNL_EXPR_CT_SREG) == register1
        ? .storeMark(.connection) : nil
    }
    guard object.has(only: [NFTNL_EXPR_CT_KEY, NFTNL_EXPR_CT_DREG]),
      object.number(NFTNL_EXPR_CT_DREG) == register1
    else { return nil }
    return switch key {
    case NFT_CT_MARK.rawValue: .load(.mark(.connection))
    case NFT_CT_DIRECTION.rawValue: .load(.direction)
    case NFT_CT_STATUS.rawValue: .load(.status)
    default: nil
    }
  }

  private static func payload(_ object: InstructionObject) -> Instruction? {
    guard
      object.has(only: [
        NFTNL_EXPR_PAYLOAD_DREG, NFTNL_EXPR_PAYLOAD_BASE, NFTNL_EXPR_PAYLOAD_OFFSET,
        NFTNL_EXPR_PAYLOAD_LEN,
      ]), object.number(NFTNL_EXPR_PAYLOAD_DREG) == register1
    else { return nil }
    let offset = object.number(NFTNL_EXPR_PAYLOAD_OFFSET)
    return
      switch (
        object.number(NFTNL_EXPR_PAYLOAD_BASE), offset, object.number(NFTNL_EXPR_PAYLOAD_LEN)
      )
    {
    case (NFT_PAYLOAD_LL_HEADER.rawValue, 6, 6): .load(.hardwareAddress)
    case (NFT_PAYLOAD_NETWORK_HEADER.rawValue, 12, 4): .load(.address(.v4, .source))
    case (NFT_PAYLOAD_NETWORK_HEADER.rawValue, 16, 4): .load(.address(.v4, .destination))
    case (NFT_PAYLOAD_NETWORK_HEADER.rawValue, 8, 16): .load(.address(.v6, .source))
    case (NFT_PAYLOAD_NETWORK_HEADER.rawValue, 24, 16): .load(.address(.v6, .destination))
    case (NFT_PAYLOAD_TRANSPORT_HEADER.rawValue, 0, 2): .load(.port(.source))
    case (NFT_PAYLOAD_TRANSPORT_HEADER.rawValue, 2, 2): .load(.port(.destination))
    case (NFT_PAYLOAD_TRANSPORT_HEADER.rawValue, 0, 1): .load(.icmpType)
    case (NFT_PAYLOAD_TRANSPORT_HEADER.rawValue, 13, 1): .load(.tcpFlags)
    default: nil
    }
  }

  private static func addressType(_ object: InstructionObject) -> Instruction? {
    object.has(only: [NFTNL_EXPR_FIB_DREG, NFTNL_EXPR_FIB_RESULT, NFTNL_EXPR_FIB_FLAGS])
      && object.number(NFTNL_EXPR_FIB_DREG) == register1
      && object.number(NFTNL_EXPR_FIB_RESULT) == NFT_FIB_RESULT_ADDRTYPE.rawValue
      && object.number(NFTNL_EXPR_FIB_FLAGS) == NFTA_FIB_F_DADDR.rawValue
      ? .load(.addressType) : nil
  }

  private static func socket(_ object: InstructionObject) -> Instruction? {
    guard
      object.has(only: [
        NFTNL_EXPR_SOCKET_DREG, NFTNL_EXPR_SOCKET_KEY, NFTNL_EXPR_SOCKET_LEVEL,
      ]), object.number(NFTNL_EXPR_SOCKET_DREG) == register1
    else { return nil }
    return switch object.number(NFTNL_EXPR_SOCKET_KEY) {
    case NFT_SOCKET_TRANSPARENT.rawValue: .load(.transparentSocket)
    case NFT_SOCKET_CGROUPV2.rawValue:
      .load(.controlGroup(level: object.number(NFTNL_EXPR_SOCKET_LEVEL)))
    default: nil
    }
  }

  // MARK: Work on registers

  private static func comparison(_ object: InstructionObject) -> Instruction? {
    guard object.has(only: [NFTNL_EXPR_CMP_SREG, NFTNL_EXPR_CMP_OP, NFTNL_EXPR_CMP_DATA]),
      object.number(NFTNL_EXPR_CMP_SREG) == register1
    else { return nil }
    let value = object.bytes(NFTNL_EXPR_CMP_DATA)
    return switch object.number(NFTNL_EXPR_CMP_OP) {
    case NFT_CMP_EQ.rawValue: .compare(.equal, value)
    case NFT_CMP_NEQ.rawValue: .compare(.notEqual, value)
    default: nil
    }
  }

  private static func lookup(_ object: InstructionObject) -> Instruction? {
    guard
      object.has(only: [NFTNL_EXPR_LOOKUP_SREG, NFTNL_EXPR_LOOKUP_SET, NFTNL_EXPR_LOOKUP_FLAGS]),
      object.number(NFTNL_EXPR_LOOKUP_SREG) == register1
    else { return nil }
    let set = object.text(NFTNL_EXPR_LOOKUP_SET)
    return switch object.number(NFTNL_EXPR_LOOKUP_FLAGS) {
    case 0: .lookup(.equal, set: set)
    case NFT_LOOKUP_F_INV.rawValue: .lookup(.notEqual, set: set)
    default: nil
    }
  }

  private static func bitwise(_ object: InstructionObject) -> Instruction? {
    guard
      object.has(only: [
        NFTNL_EXPR_BITWISE_SREG, NFTNL_EXPR_BITWISE_DREG, NFTNL_EXPR_BITWISE_LEN,
        NFTNL_EXPR_BITWISE_MASK, NFTNL_EXPR_BITWISE_XOR, NFTNL_EXPR_BITWISE_OP,
      ]), object.number(NFTNL_EXPR_BITWISE_SREG) == register1,
      object.number(NFTNL_EXPR_BITWISE_DREG) == register1,
      object.number(NFTNL_EXPR_BITWISE_OP) == maskAndXor
    else { return nil }
    return .bitwise(
      mask: object.bytes(NFTNL_EXPR_BITWISE_MASK), xor: object.bytes(NFTNL_EXPR_BITWISE_XOR))
  }

  private static func byteOrder(_ object: InstructionObject) -> Instruction? {
    object.number(NFTNL_EXPR_BYTEORDER_SREG) == register1
      && object.number(NFTNL_EXPR_BYTEORDER_DREG) == register1
      && object.number(NFTNL_EXPR_BYTEORDER_OP) == NFT_BYTEORDER_HTON.rawValue
      && object.number(NFTNL_EXPR_BYTEORDER_LEN) == 4
      && object.number(NFTNL_EXPR_BYTEORDER_SIZE) == 4
      ? .reverseBytes : nil
  }

  private static func immediate(_ object: InstructionObject) -> Instruction? {
    let register = object.number(NFTNL_EXPR_IMM_DREG)
    if object.has(only: [NFTNL_EXPR_IMM_DREG, NFTNL_EXPR_IMM_DATA]) {
      return .immediate(object.bytes(NFTNL_EXPR_IMM_DATA), register: register)
    }
    guard
      object.has(only: [NFTNL_EXPR_IMM_DREG, NFTNL_EXPR_IMM_VERDICT, NFTNL_EXPR_IMM_CHAIN]),
      register == UInt32(NFT_REG_VERDICT.rawValue)
    else { return nil }
    let chain = object.text(NFTNL_EXPR_IMM_CHAIN)
    return switch Int32(bitPattern: object.number(NFTNL_EXPR_IMM_VERDICT)) {
    case NF_ACCEPT: .verdict(.accept)
    case NF_DROP: .verdict(.drop)
    case NFT_RETURN.rawValue: .verdict(.return)
    case NFT_JUMP.rawValue: .verdict(.jump(chain))
    case NFT_GOTO.rawValue: .verdict(.goto(chain))
    default: nil
    }
  }

  // MARK: Statements

  private static func redirect(_ object: InstructionObject) -> Instruction? {
    object.number(NFTNL_EXPR_REDIR_REG_PROTO_MIN) == register1
      && object.number(NFTNL_EXPR_REDIR_REG_PROTO_MAX) == register1
      && object.number(NFTNL_EXPR_REDIR_FLAGS) == RuleEncoder.rangeProtoSpecified
      ? .redirect : nil
  }

  private static func tproxy(_ object: InstructionObject) -> Instruction? {
    guard object.number(NFTNL_EXPR_TPROXY_REG_ADDR) == register1,
      object.number(NFTNL_EXPR_TPROXY_REG_PORT) == register2
    else { return nil }
    return switch object.number(NFTNL_EXPR_TPROXY_FAMILY) {
    case UInt32(NFPROTO_IPV4): .tproxy(.v4)
    case UInt32(NFPROTO_IPV6): .tproxy(.v6)
    default: nil
    }
  }

  private static func reject(_ object: InstructionObject) -> Instruction? {
    switch (object.number(NFTNL_EXPR_REJECT_TYPE), object.byte(NFTNL_EXPR_REJECT_CODE)) {
    case (NFT_REJECT_TCP_RST.rawValue, 0): .reject(.tcpReset)
    case (NFT_REJECT_ICMPX_UNREACH.rawValue, UInt8(NFT_REJECT_ICMPX_PORT_UNREACH.rawValue)):
      .reject(.portUnreachable)
    case (NFT_REJECT_ICMPX_UNREACH.rawValue, UInt8(NFT_REJECT_ICMPX_ADMIN_PROHIBITED.rawValue)):
      .reject(.administrativelyProhibited)
    default: nil
    }
  }
}
