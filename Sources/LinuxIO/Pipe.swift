internal import CLinux

/// A pipe for `splice(2)`, non-blocking at both ends.
package struct Pipe: ~Copyable {
  package let readEnd: Descriptor
  package let writeEnd: Descriptor

  /// - Parameter bytes: the capacity asked for; an unprivileged user past his share of pipe memory
  ///   (`/proc/sys/fs/pipe-user-pages-soft`) gets a smaller pipe instead.
  package init(bytes: Int) throws(Errno) {
    var ends: [Int32] = [-1, -1]
    _ = try checked(clx_pipe(&ends))
    readEnd = Descriptor(owning: ends[0])
    writeEnd = Descriptor(owning: ends[1])
    _ = clx_set_pipe_bytes(ends[1], Int32(bytes))
  }
}
