internal import CLinux

/// An error number of the kernel (`errno(3)`); `rawValue` is positive.
package struct Errno: Error, Hashable, Sendable, RawRepresentable {
  package let rawValue: Int32

  package init(rawValue: Int32) { self.rawValue = rawValue }

  package static let notPermitted = Errno(rawValue: EPERM)
  package static let accessDenied = Errno(rawValue: EACCES)
  package static let noEntry = Errno(rawValue: ENOENT)
  package static let interrupted = Errno(rawValue: EINTR)
  package static let noProcess = Errno(rawValue: ESRCH)
  package static let badDescriptor = Errno(rawValue: EBADF)
  package static let badAddress = Errno(rawValue: EFAULT)
  package static let notSupported = Errno(rawValue: EOPNOTSUPP)
  package static let familyNotSupported = Errno(rawValue: EAFNOSUPPORT)
  package static let protocolNotAvailable = Errno(rawValue: ENOPROTOOPT)
  package static let addressInUse = Errno(rawValue: EADDRINUSE)
  package static let addressNotAvailable = Errno(rawValue: EADDRNOTAVAIL)
  package static let connectionRefused = Errno(rawValue: ECONNREFUSED)
  package static let connectionReset = Errno(rawValue: ECONNRESET)
  package static let connectionAborted = Errno(rawValue: ECONNABORTED)
  package static let timedOut = Errno(rawValue: ETIMEDOUT)
  package static let hostUnreachable = Errno(rawValue: EHOSTUNREACH)
  package static let hostDown = Errno(rawValue: EHOSTDOWN)
  package static let networkUnreachable = Errno(rawValue: ENETUNREACH)
  package static let networkDown = Errno(rawValue: ENETDOWN)
  package static let tooManyOpenFiles = Errno(rawValue: EMFILE)
  package static let tooManyOpenFilesInSystem = Errno(rawValue: ENFILE)
  package static let noBufferSpace = Errno(rawValue: ENOBUFS)
  package static let noMemory = Errno(rawValue: ENOMEM)
  package static let inputOutput = Errno(rawValue: EIO)
  package static let invalidArgument = Errno(rawValue: EINVAL)
  package static let messageTooLong = Errno(rawValue: EMSGSIZE)
  package static let noSpace = Errno(rawValue: ENOSPC)
  package static let noSystemCall = Errno(rawValue: ENOSYS)
  package static let protocolNotSupported = Errno(rawValue: EPROTONOSUPPORT)
  package static let noDevice = Errno(rawValue: ENODEV)
  package static let fileExists = Errno(rawValue: EEXIST)
  package static let notSocket = Errno(rawValue: ENOTSOCK)
  package static let wouldBlock = Errno(rawValue: EAGAIN)
}

extension Errno: CustomStringConvertible {
  /// The C library's text, in lower case at the start: "connection refused".
  package var description: String {
    var buffer = [CChar](repeating: 0, count: 128)
    strerror_r(rawValue, &buffer, buffer.count)
    let bytes = buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
    let text = String(decoding: bytes, as: UTF8.self)
    return text.prefix(1).lowercased() + text.dropFirst()
  }
}

/// The result of a system call that returned `-errno` on failure.
///
/// EBADF and EFAULT mean that Sluice itself is broken: going on would use somebody else's
/// descriptor or memory, so they stop the process.
package func checked(_ result: Int) throws(Errno) -> Int {
  if result >= 0 { return result }
  let error = Errno(rawValue: Int32(truncatingIfNeeded: -result))
  precondition(error != .badDescriptor && error != .badAddress, "\(error)")
  throw error
}

package func checked(_ result: Int32) throws(Errno) -> Int32 {
  Int32(truncatingIfNeeded: try checked(Int(result)))
}
