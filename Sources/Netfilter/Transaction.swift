internal import CLibmnl
internal import CLibnftnl
internal import CLinux
internal import LinuxIO

/// Changes to nftables that the kernel makes all together or not at all (`NFNL_MSG_BATCH_BEGIN` and
/// `_END` in <linux/netfilter/nfnetlink.h>).
struct Transaction {
  /// What a message of the batch does, for the error that it may cause.
  struct Operation {
    /// Behind "cannot": `add chain divert`.
    let name: String
    /// What the kernel lacks if it does not know what the message names.
    let feature: String?
  }

  private var bytes: [UInt8] = []
  /// Of the message with sequence number `index`; the first one is the batch's begin.
  private var operations: [Operation] = []

  init() {
    appendMessage(Operation(name: "begin a transaction", feature: "nftables (CONFIG_NF_TABLES)")) {
      buffer, sequence in nftnl_batch_begin(buffer, sequence)
    }
  }

  /// A number that no other set of this batch has.
  var setIdentifier: UInt32 { UInt32(operations.count) }

  /// Adds a message.
  /// - Parameters:
  ///   - type: `NFT_MSG_*`.
  ///   - flags: `NLM_F_*` beside NLM_F_ACK.
  ///   - payload: adds the attributes behind the header.
  mutating func append(
    _ operation: Operation, type: nf_tables_msg_types, flags: Int32,
    _ payload: (UnsafeMutablePointer<nlmsghdr>) -> Void
  ) {
    appendMessage(operation) { buffer, sequence in
      let header = nftnl_nlmsg_build_hdr(
        buffer, UInt16(type.rawValue), UInt16(NFPROTO_INET), UInt16(NLM_F_ACK | flags),
        sequence)
      guard let header else { preconditionFailure("libnftnl gave no header") }
      payload(header)
      return header
    }
  }

  /// Sends the batch; on an error the kernel has changed nothing.
  consuming func commit(on socket: borrowing NetlinkSocket) throws(TransactionError) {
    let messages = operations.count - 1
    let end = Operation(name: "end a transaction", feature: nil)
    appendMessage(end) { buffer, sequence in nftnl_batch_end(buffer, sequence) }
    let answers: [NetlinkSocket.Acknowledgement]
    do {
      answers = try socket.acknowledgements(to: bytes, count: messages)
    } catch {
      throw TransactionError(
        operation: Operation(name: "talk to nftables", feature: nil), errno: error)
    }
    // The first failure in the order of the messages is the cause of those behind it.
    let failures = answers.filter { $0.error != nil }
    if let first = failures.min(by: { $0.sequence < $1.sequence }), let error = first.error {
      throw TransactionError(operation: operations[Int(first.sequence)], errno: error)
    }
    guard answers.count >= messages else {
      throw TransactionError(operation: end, errno: .noBufferSpace)
    }
  }

  /// Attribute lengths have 16 bits, so that no message needs more.
  private static let maximumMessageBytes = 64 * 1024

  private mutating func appendMessage(
    _ operation: Operation,
    _ build: (UnsafeMutablePointer<CChar>, UInt32) -> UnsafeMutablePointer<nlmsghdr>?
  ) {
    let sequence = UInt32(operations.count)
    operations.append(operation)
    withUnsafeTemporaryAllocation(byteCount: Self.maximumMessageBytes, alignment: 8) { buffer in
      // SAFETY: libmnl writes a message front to back without reading what was there; callers put
      // less than `maximumMessageBytes` in one. The header's length says how much is initialised.
      let start = buffer.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: CChar.self)
      guard let header = build(start, sequence) else { preconditionFailure("no message") }
      let count = Int(header.pointee.nlmsg_len)
      precondition(count <= Self.maximumMessageBytes, "a message beyond its buffer")
      bytes += UnsafeRawBufferPointer(start: header, count: count)
    }
  }
}

/// The message of a transaction that failed, and why.
struct TransactionError: Error {
  let operation: Transaction.Operation
  let errno: Errno
}
