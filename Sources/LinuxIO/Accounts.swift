internal import CLinux

/// Users and groups by name, as the host's name service knows them. May block.
package enum Accounts {
  /// The number of a user (`getpwnam_r(3)`), nil if there is none of that name.
  package static func user(named name: String) -> UInt32? {
    var entry = passwd()
    return look { buffer, count in
      var found: UnsafeMutablePointer<passwd>?
      let result = getpwnam_r(name, &entry, buffer, count, &found)
      return (result, found?.pointee.pw_uid)
    }
  }

  /// The number of a group (`getgrnam_r(3)`), nil if there is none of that name.
  package static func group(named name: String) -> UInt32? {
    var entry = CLinux.group()
    return look { buffer, count in
      var found: UnsafeMutablePointer<CLinux.group>?
      let result = getgrnam_r(name, &entry, buffer, count, &found)
      return (result, found?.pointee.gr_gid)
    }
  }

  /// What the user that this process acts for logs in to (`getpwuid_r(3)`), nil if nobody says.
  package static var shellOfThisUser: String? {
    var entry = passwd()
    return look { buffer, count in
      var found: UnsafeMutablePointer<passwd>?
      let result = getpwuid_r(geteuid(), &entry, buffer, count, &found)
      let shell = found.map { String(cString: $0.pointee.pw_shell) }
      return (result, shell.flatMap { $0.isEmpty ? nil : $0 })
    }
  }

  /// Asks with a buffer that grows until the entry fits: a group may have many members.
  private static func look<Answer>(
    _ ask: (UnsafeMutablePointer<CChar>, Int) -> (error: Int32, answer: Answer?)
  ) -> Answer? {
    let maximumBytes = 1 << 24
    var count = 1 << 12
    while count <= maximumBytes {
      let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: count)
      defer { buffer.deallocate() }
      let answer = ask(buffer, count)
      if answer.error != ERANGE { return answer.answer }
      count *= 4
    }
    return nil
  }
}
