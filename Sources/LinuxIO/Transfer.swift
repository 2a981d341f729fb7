internal import CLinux

/// The result of moving bytes. Would-block is a value, since it is the ordinary end of a turn;
/// EINTR is retried here and nowhere else.
package enum Transfer {
  /// How many bytes moved; 0 on receipt is the end of the stream.
  case bytes(Int)
  case wouldBlock
  case failed(Errno)

  init(_ result: Int) {
    if result >= 0 {
      self = .bytes(result)
    } else if result == -Int(EAGAIN) || result == -Int(EINPROGRESS) {
      // EINPROGRESS: the SYN of TCP Fast Open took none of the bytes (send(2)).
      self = .wouldBlock
    } else {
      let error = Errno(rawValue: Int32(truncatingIfNeeded: -result))
      precondition(error != .badDescriptor && error != .badAddress, "broken transfer")
      self = .failed(error)
    }
  }
}

/// `recv(2)` of at most `buffer.count` bytes.
package func receive(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
  while true {
    let result = clx_recv(descriptor, buffer.baseAddress, buffer.count)
    if result != -Int(EINTR) { return Transfer(result) }
  }
}

/// The same, and the bytes stay where they are (`MSG_PEEK`).
package func peek(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
  while true {
    let result = clx_peek(descriptor, buffer.baseAddress, buffer.count)
    if result != -Int(EINTR) { return Transfer(result) }
  }
}

/// Takes at most `count` bytes from a TCP socket, and drops them.
package func discard(_ count: Int, from descriptor: Int32) -> Transfer {
  while true {
    let result = clx_discard(descriptor, count)
    if result != -Int(EINTR) { return Transfer(result) }
  }
}

/// `send(2)` without SIGPIPE; may take fewer bytes than given.
package func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Transfer {
  while true {
    let result = clx_send(descriptor, bytes.baseAddress, bytes.count)
    if result != -Int(EINTR) { return Transfer(result) }
  }
}

/// The same before `StreamSocket.shutdownSending`, whose FIN then travels with the last of `bytes`
/// (`MSG_MORE`): one packet less, and whoever receives them wakes once.
package func sendLast(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Transfer {
  while true {
    let result = clx_send_more(descriptor, bytes.baseAddress, bytes.count)
    if result != -Int(EINTR) { return Transfer(result) }
  }
}

/// `splice(2)` without blocking on the pipe; one of the two descriptors is a pipe.
package func splice(from: Int32, to: Int32, atMost count: Int) -> Transfer {
  while true {
    let result = clx_splice(from, to, count)
    if result != -Int(EINTR) { return Transfer(result) }
  }
}
