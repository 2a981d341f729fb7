package import Configuration
internal import ConfigurationFile
internal import LinuxIO

/// A configuration file that has been read, or none.
package struct SettingsFile {
  private let file: (path: String, contents: ConfigurationFile)?

  /// What a file may have, as a JSON Schema.
  package static var schema: String { ConfigurationFile.schema }

  /// Fails with a line for each fault of the file.
  package init(_ path: String?) throws(CommandFailure) {
    guard let path else {
      file = nil
      return
    }
    let bytes: [UInt8]
    do {
      bytes = try readBytes(of: path, limit: ConfigurationFile.maximumBytes + 1)
    } catch {
      throw CommandFailure("cannot read \(path): \(error)", .usage)
    }
    do {
      file = (path, try ConfigurationFile(bytes))
    } catch {
      let lines = error.all.map { $0.description(in: path) }
      throw CommandFailure(lines.joined(separator: "\nsluice: "), .usage)
    }
  }

  /// What the options say, and where they say nothing, the file.
  package func options(under flags: Options) -> Options {
    file?.contents.options(under: flags) ?? flags
  }

  /// What all of them say together.
  /// - Parameter options: as `options(under:)` has made them.
  package func configuration(_ options: Options) throws(CommandFailure) -> Configuration {
    do {
      return try Configuration(options)
    } catch {
      guard let file, let problem = file.contents.problem(error) else {
        throw CommandFailure("\(error)", .usage)
      }
      throw CommandFailure(problem.description(in: file.path), .usage)
    }
  }
}
