package import Configuration
internal import Glibc
internal import LinuxIO
package import Logging

/// Where the upstream and its user's password come from if they do not stand in the arguments, which
/// every user of the host can read. Programs that this process starts do not inherit them.
package struct UpstreamSecrets {
  /// Has the URL where no argument does.
  private static let upstreamVariable = "SLUICE_UPSTREAM"
  private static let passwordVariable = "SLUICE_PASSWORD"
  /// Of systemd, which has its folder in this variable (`systemd.exec(5)`, LoadCredential=).
  private static let credential = "sluice-password"
  private static let credentialsVariable = "CREDENTIALS_DIRECTORY"

  private let upstream: String?
  private let password: [UInt8]?
  private let credentialFile: String?

  /// Takes them out of the environment.
  package init() {
    upstream = EnvironmentVariable.take(Self.upstreamVariable)
    password = EnvironmentVariable.takeBytes(of: Self.passwordVariable)
    credentialFile = EnvironmentVariable.bytes(of: Self.credentialsVariable).map {
      "\(String(decoding: $0, as: UTF8.self))/\(Self.credential)"
    }
  }

  /// Fills in the upstream alone, for a command that does not connect to it.
  package func fillUpstream(_ options: inout Options) {
    guard options.upstream == nil, options.furtherUpstreams.isEmpty else { return }
    options.upstream = upstream
    options.isUpstreamHidden = upstream != nil
  }

  /// Fills in the upstream, and the password where the URL has a user and none.
  package func fill(_ options: inout Options, log: Logger) throws(CommandFailure) {
    fillUpstream(&options)
    // What is wrong with it is said by who uses it.
    let urls = options.upstreams.compactMap { try? UpstreamChain(UpstreamSelection.url($0)) }
    guard urls.count == options.upstreams.count else { return }
    guard urls.contains(where: \.lacksPassword) else {
      guard options.passwordFile == nil else {
        throw CommandFailure(
          urls.contains(where: \.hasPassword)
            ? "--password-file: the upstream's URL has a password: leave out one of the two"
            : "--password-file: the upstream has no user with a password: expected a URL such as "
              + "socks5://user@host", .usage)
      }
      return
    }
    options.password = UpstreamPassword(try password(file: options.passwordFile, log))
  }

  /// Tells who starts something with a password that others can read.
  static func tell(_ configuration: Configuration, _ log: Logger) {
    guard configuration.isPasswordInArguments else { return }
    log.notice(
      "ps shows the upstream's password: --password-file or SLUICE_PASSWORD would not",
      metadata: ["event": "password_in_arguments"])
  }

  /// By precedence: the file, the environment, the credential.
  private func password(file: String?, _ log: Logger) throws(CommandFailure) -> [UInt8] {
    if let file { return try Secret.firstLine(of: file, log) }
    if let password { return password }
    if let credentialFile, access(credentialFile, F_OK) == 0 {
      return try Secret.firstLine(of: credentialFile, log)
    }
    throw CommandFailure(
      """
      the upstream's user has no password: give --password-file FILE, set \(Self.passwordVariable) in \
      the environment, or load the systemd credential \(Self.credential)
      """, .usage)
  }
}
