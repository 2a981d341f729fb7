internal import LinuxIO

/// What a bulk transfer has otherwise over a short path than the kernel would do by itself. A long path
/// needs what the kernel gives.
///
/// How much of it is on its way at a time: the kernel's own sizing (`tcp_rmem`, up to 32 MiB a connection)
/// fills buffers that speed does not need, and several transfers then push each other out of the
/// processor's cache (8 streams between namespaces: with these bounds 1.14 to 1.20 of the throughput at
/// 0.9 of the processor time; half of them cost 1.5 of it for wakes).
///
/// And that nothing paces it: there is no queue to spare, and each timer costs as much as the packet that it
/// is for (1 stream on a machine set to BBR: 1.3 to 2.0 of the throughput at 0.5 to 0.7 of the processor time).
enum ShortPath {
  /// What has been found out of the path to a sink.
  enum Finding {
    case long, short
    /// Short, and it was paced until now.
    case paced
  }

  /// A shorter round trip than this, in microseconds, makes a path short: within it the bounds let
  /// through 16 Gbit/s.
  private static let longestRoundTrip = 500
  private static let receivedBytes: Int32 = 2 * 1024 * 1024
  private static let sentBytes: Int32 = 1024 * 1024

  /// Gives a direction's two sockets what is good for them, each by its own path.
  static func adapt(source: Int32, sink: Int32, leavingPacing: Bool) -> Finding {
    if isShort(source) { StreamSocket.fixReceiveBuffer(source, bytes: receivedBytes) }
    guard isShort(sink) else { return .long }
    StreamSocket.fixSendBuffer(sink, bytes: sentBytes)
    return leavingPacing && StreamSocket.leavePacing(sink) ? .paced : .short
  }

  /// Has a connection that was accepted without pacing be paced, unless its path is short.
  static func resumePacingIfLong(_ accepted: borrowing Descriptor) {
    if !isShort(accepted.rawValue) { StreamSocket.resumePacing(accepted.rawValue) }
  }

  private static func isShort(_ socket: Int32) -> Bool {
    StreamSocket.leastRoundTrip(socket).map { $0 < longestRoundTrip } ?? false
  }
}
