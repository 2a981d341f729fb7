package import LinuxIO
internal import Synchronization

/// Sockets that others have opened, another process in the captured side's network namespace, an earlier one in
/// ours or a service manager, until the workers take them. What nobody takes is closed with this.
package final class HandedSockets: Sendable {
  /// Descriptors that this owns, by what they are.
  private let descriptors = Mutex<[IngressSocket: [Int32]]>([:])

  package init() {}

  deinit {
    descriptors.withLock { descriptors in
      for descriptor in descriptors.values.joined() { _ = Descriptor(owning: descriptor) }
    }
  }

  /// Adds the next one of `DataPlaneConfiguration.ingressSockets`, or one that the embedded server listens on.
  package func add(_ descriptor: consuming Descriptor, as socket: IngressSocket) {
    let descriptor = descriptor.take()
    descriptors.withLock { $0[socket, default: []].append(descriptor) }
  }

  /// One of this kind; that there is one is for those who handed them over to see to.
  func take(_ socket: IngressSocket) -> Descriptor {
    guard let descriptor = descriptors.withLock({ $0[socket]?.popLast() }) else {
      preconditionFailure("not handed over: \(socket)")
    }
    return Descriptor(owning: descriptor)
  }
}
