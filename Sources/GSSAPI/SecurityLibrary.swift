internal import CGSSAPI
internal import SOCKS

/// The GSSAPI library, loaded when it is first asked for and kept.
struct SecurityLibrary: @unchecked Sendable {
  // SAFETY: unchecked, since the function pointers are written once, before anybody has the value.
  private static let name = "libgssapi_krb5.so.2"

  private static let shared: SecurityLibrary? = {
    var functions = cgss_library()
    return cgss_load(name, &functions) == 0 ? SecurityLibrary(functions: functions) : nil
  }()

  private let functions: cgss_library

  /// Loads it if nobody has yet.
  static func load() throws(SecurityFailure) -> SecurityLibrary {
    guard let shared else {
      throw SecurityFailure("\(name) cannot be loaded; install it (Debian: libgssapi-krb5-2)")
    }
    return shared
  }

  /// Calls a function with the others at hand.
  func call<Result>(_ body: (UnsafePointer<cgss_library>) -> Result) -> Result {
    withUnsafePointer(to: functions, body)
  }

  /// Why a call has failed, for people: the mechanism's own words where it has some.
  func failure(_ major: UInt32, _ minor: UInt32, for service: String) -> SecurityFailure {
    let code = major & ~UInt32(CGSS_SUPPLEMENTARY_BITS)
    var text = minor == 0 ? "" : describe(minor, CGSS_MECHANISM_CODE)
    if text.isEmpty { text = describe(major, CGSS_MAJOR_CODE) }
    switch code {
    case UInt32(CGSS_NO_CRED), UInt32(CGSS_DEFECTIVE_CREDENTIAL), UInt32(CGSS_CREDENTIALS_EXPIRED):
      return SecurityFailure("\(text): get a ticket with kinit")
    default: break
    }
    switch Int32(bitPattern: minor) {
    case Kerberos.ticketExpired, Kerberos.noCredentialsFile, Kerberos.credentialsNotFound:
      return SecurityFailure("\(text): get a ticket with kinit")
    case Kerberos.serverUnknown:
      return SecurityFailure("\(text): name the upstream's service with ?gssapi=SERVICE@HOST")
    default:
      return SecurityFailure("\(text) (service \(service))")
    }
  }

  private func describe(_ status: UInt32, _ kind: some BinaryInteger) -> String {
    call { functions in
      var buffer = cgss_buffer()
      guard cgss_describe(functions, status, Int32(kind), &buffer) == CGSS_COMPLETE else {
        return ""
      }
      defer { cgss_release(functions, &buffer) }
      return String(
        decoding: UnsafeRawBufferPointer(start: buffer.value, count: buffer.length), as: UTF8.self)
    }
  }

  /// Errors of MIT's library that a person can do something about (krb5.h).
  private enum Kerberos {
    static let serverUnknown: Int32 = -1_765_328_377
    static let ticketExpired: Int32 = -1_765_328_352
    static let credentialsNotFound: Int32 = -1_765_328_243
    static let noCredentialsFile: Int32 = -1_765_328_189
  }
}
