using CppSharp;
using CppSharp.AST;
using CppSharp.Generators;
using CppSharp.Parser;

namespace SieveAttention.Bindings;

/// <summary>
/// What CppSharp is told about the library. CppSharp parses, resolves types and lays out structures; the C# that it writes by
/// default is replaced by <see cref="InteropSource"/>s, because its managed wrappers lose data silently: an opaque
/// <c>T **</c> result is dropped, value types forget what a callee wrote through a pointer, delegates passed as callbacks are
/// collected. The layer below them, layouts and raw imports, is sound, and is all that this project calls.
/// </summary>
internal sealed class SieveLibrary(string headerDirectory, string outputDirectory) : ILibrary
{
    internal const string Header = "sieve/attention.h";

    /// <summary>
    /// Functions called without the transition that lets the garbage collector run: only those that return within a microsecond
    /// and never block, lock or call back.
    /// </summary>
    private static readonly string[] s_quick = ["sieve_abi_version", "sieve_status_name"];

    public void Setup(Driver driver)
    {
        // The default, C++14, would look for mangled entry points and add copy constructors.
        driver.ParserOptions.LanguageVersion = LanguageVersion.C99_GNU;

        DriverOptions options = driver.Options;
        options.GeneratorKind = GeneratorKind.CSharp;
        options.OutputDir = outputDirectory;
        // The committed files are compared byte by byte, whatever machine wrote them.
        options.OutputNewLineType = NewLineType.LF;
        options.GenerationOutputMode = GenerationOutputMode.FilePerModule;

        Module module = options.AddModule("sieve");
        module.SharedLibraryName = FunctionSource.LibraryName;
        module.OutputNamespace = InteropSource.Namespace;
        // A header below /usr/include counts as a system header, for which CppSharp generates nothing without saying so;
        // the check in GenerateCode turns that into an error.
        module.IncludeDirs.Add(headerDirectory);
        module.Headers.Add(Header);
    }

    public void SetupPasses(Driver driver)
    {
    }

    public void Preprocess(Driver driver, ASTContext context)
    {
    }

    public void Postprocess(Driver driver, ASTContext context)
    {
    }

    public void GenerateCode(Driver driver, List<GeneratorOutput> outputs)
    {
        TranslationUnit unit = driver.Context.ASTContext.TranslationUnits.SingleOrDefault(
                u => u.IsValid && !u.IsSystemHeader && u.FileName == Path.GetFileName(Header))
            ?? throw new NotSupportedException($"{Header} was not found below {headerDirectory}, or lies in a system directory.");

        // Also drops Std.cs, which CppSharp adds for the C++ standard library.
        outputs.Clear();
        outputs.Add(Output(unit, new EnumSource(driver.Context, unit)));
        outputs.Add(Output(unit, new StructSource(driver.Context, unit)));
        outputs.Add(Output(unit, new FunctionSource(driver.Context, unit, s_quick)));
    }

    private static GeneratorOutput Output(TranslationUnit unit, InteropSource source)
    {
        source.Process();
        return new GeneratorOutput
        {
            // CppSharp names the file after the unit.
            TranslationUnit = new TranslationUnit { FilePath = $"{source.FileName}.h", Module = unit.Module },
            Outputs = [source],
        };
    }
}
