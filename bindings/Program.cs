using CppSharp;
using SieveAttention.Bindings;

if (args.Length != 2)
{
    Console.Error.WriteLine("usage: dotnet run --project bindings -- <header directory> <output directory>");
    return 2;
}

try
{
    // Read before the parser sees it: the recorded hash must never be that of a newer header than the generated code.
    HeaderRecord header = HeaderRecord.Of(Path.Combine(args[0], SieveLibrary.Header));
    if (!ConsoleDriver.Run(new SieveLibrary(args[0], args[1])))
    {
        return 1;
    }

    header.Write(args[1]);
    return 0;
}
catch (Exception e) when (e is NotSupportedException or IOException)
{
    Console.Error.WriteLine($"error: {e.Message}");
    return 1;
}
