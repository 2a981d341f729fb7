internal import LinuxIO

/// How much of a bulk transfer is on its way at a time. Over a short path the kernel's own sizing
/// (`tcp_rmem`, up to 32 MiB a connection) fills buffers that speed does not need, and several
/// transfers then push each other out of the processor's cache (8 streams between namespaces: with
/// these bounds 1.14 to 1.20 of the throughput at 0.9 of the processor time; half of them cost 1.5 of
/// it for wakes). A long path needs what the kernel gives.
enum InFlightBound {
  /// A shorter round trip than this, in microseconds, makes a path short: within it the bounds let
  /// through 16 Gbit/s.
  private static let shortPath = 500
  private static let receivedBytes: Int32 = 2 * 1024 * 1024
  private static let sentBytes: Int32 = 1024 * 1024

  /// Bounds what a direction's two sockets hold, each by its own path.
  static func apply(source: Int32, sink: Int32) {
    if isShort(source) { StreamSocket.fixReceiveBuffer(source, bytes: receivedBytes) }
    if isShort(sink) { StreamSocket.fixSendBuffer(sink, bytes: sentBytes) }
  }

  private static func isShort(_ socket: Int32) -> Bool {
    StreamSocket.leastRoundTrip(socket).map { $0 < shortPath } ?? false
  }
}
