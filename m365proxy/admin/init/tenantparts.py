"""The PowerShell text of the tenant's script, in parts.

No part has anything of the answers in it: they are variables, set once at the top of the script (`tenantscript`).
`az` is called on lines of its own, with nothing but words, literals and variables, so that tests can run these lines
with the real `az`.  What is used of Exchange is documented by Microsoft under the cmdlet's name.
"""

from __future__ import annotations

# Comments before the code.
HEADER = """\
# Prepares a Microsoft 365 tenant for m365proxy. Made by `m365proxy init`; there is no secret in it.
#
# Run it in Azure Cloud Shell (https://shell.azure.com, PowerShell): paste all of it and press Enter, or upload it
# (Manage files > Upload) and type ./ and its name. Any PowerShell 7 with the Azure CLI does as well, after `az login`.
# You are asked to sign in once more, for Exchange, with a code.
#
# You need to be Global Administrator, or both Cloud Application Administrator and Exchange Administrator.
# It may be run as often as you like: what is right already is left as it is. How to take everything away again is at
# the end.
"""

# Begins the block that keeps everything together: nothing of what is pasted runs before its last line is there.
OPENING = """\
& {
$ErrorActionPreference = 'Stop'
$PSNativeCommandUseErrorActionPreference = $false
"""

FUNCTIONS = """
$graph = '00000003-0000-0000-c000-000000000000'  # Microsoft Graph, in every tenant
$problems = [System.Collections.Generic.List[string]]::new()
$clientId = ''
$file = ''

function Write-Step($state, $what) { Write-Host ('{0,-14} {1}' -f $state, $what) }

function Write-Problem($what) {
    $problems.Add($what)
    Write-Host "PROBLEM        $what" -ForegroundColor Red
}

# What was just made may not be known everywhere yet: then there is nothing to be read of it, and that is as well.
function Assert-Az($what, $isNew) {
    if ($LASTEXITCODE -ne 0 -and -not $isNew) { throw "$what did not work: see what az says above." }
}

function Invoke-Patiently($isNew, $command) {
    $tries = if ($isNew) { 12 } else { 1 }
    for ($try = 1; $try -le $tries; $try++) {
        try { return & $command } catch { if ($try -eq $tries) { throw } }
        Start-Sleep -Seconds 10
    }
}

function Join-Sorted($words) { return (@($words) | Where-Object { $_ } | Sort-Object -Unique) -join ' ' }
"""

# Who is signed in, and whether this is the tenant that was meant; then the app registration.
APP = """
try {
Write-Host ''
Write-Host 'App registration (Entra)'
if (-not (Get-Command az -ErrorAction SilentlyContinue)) {
    throw 'There is no az here. Run this in Azure Cloud Shell, or install the Azure CLI.'
}
$here = az account show --query tenantId --output tsv --only-show-errors
if ($LASTEXITCODE -ne 0) {
    throw 'az is not signed in. Run: az login --allow-no-subscriptions --use-device-code'
}
$tenantId = $tenant
if ($tenant -notmatch '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$') {
    $authority = az cloud show --query endpoints.activeDirectory --output tsv --only-show-errors
    Assert-Az 'Asking for the cloud'
    $about = "$authority/$([uri]::EscapeDataString($tenant))/v2.0/.well-known/openid-configuration"
    try { $tenantId = (Invoke-RestMethod -Uri $about).issuer.Split('/')[3] }
    catch { throw "Microsoft does not know the tenant $tenant. Check its name, and run m365proxy init again." }
}
if ($here -ne $tenantId) {
    throw "az is signed in to the tenant $here, but $tenant is $tenantId. Run: " +
        "az login --tenant $tenantId --allow-no-subscriptions --use-device-code"
}

$apps = @(az ad app list --filter $appFilter --query '[].appId' --output tsv --only-show-errors)
Assert-Az 'Looking for the app registration'
if ($apps.Count -gt 1) {
    throw "There are $($apps.Count) app registrations with the name $appName. " +
        'Rename or delete those that m365proxy does not use.'
}
$isNewApp = $apps.Count -eq 0
if ($isNewApp) {
    $clientId = az ad app create --display-name $appName --sign-in-audience AzureADMyOrg `
        --is-fallback-public-client $isPublicClient --query appId --output tsv --only-show-errors
    Assert-Az 'Creating the app registration'
    Write-Step 'created' "app registration $appName"
} else {
    $clientId = $apps[0]
    Write-Step 'already there' "app registration $appName"
}

$principals = @(az ad sp list --filter "appId eq '$clientId'" --query '[].id' --output tsv --only-show-errors)
Assert-Az 'Looking for the service principal'
if ($principals.Count -eq 0) {
    for ($try = 1; $try -le 12; $try++) {
        $objectId = az ad sp create --id $clientId --query id --output tsv --only-show-errors
        if ($LASTEXITCODE -eq 0) { break }
        Write-Host 'A new app registration takes a moment to be known everywhere. Trying again.'
        Start-Sleep -Seconds 10
    }
    Assert-Az 'Creating the service principal'
    Write-Step 'created' 'service principal'
} else {
    $objectId = $principals[0]
    Write-Step 'already there' 'service principal'
}
"""

# What an account that signs in needs of the app registration.  `az ad app permission admin-consent` is not used: it
# fails in Cloud Shell, and in all clouds but one (Azure/azure-cli, issues 8912, 25257 and 29424).
DELEGATED_APP = """
$file = [System.IO.Path]::GetTempFileName()
if (-not $isNewApp) {
    $public = az ad app show --id $clientId --query isFallbackPublicClient --output tsv --only-show-errors
    Assert-Az 'Reading the app registration'
    if ($public -eq 'true') {
        Write-Step 'already there' 'sign-in by device code (Allow public client flows)'
    } else {
        az ad app update --id $clientId --is-fallback-public-client true --only-show-errors
        Assert-Az 'Allowing public client flows'
        Write-Step 'changed' 'sign-in by device code (Allow public client flows) is allowed now'
    }
}

# Permissions are looked up by name: what their ids are is Microsoft's business.
$lines = @(az ad sp show --id $graph --query 'oauth2PermissionScopes[].[value, id]' --output tsv --only-show-errors)
Assert-Az 'Looking up the permissions of Microsoft Graph'
$ids = @{}
foreach ($line in $lines) { $ids[($line -split "`t")[0]] = ($line -split "`t")[1] }
foreach ($name in $permissions) {
    if (-not $ids[$name]) { throw "Microsoft Graph has no permission $name in this tenant." }
}
$requested = @(az ad app show --id $clientId --output tsv --only-show-errors `
        --query "requiredResourceAccess[?resourceAppId=='$graph'].resourceAccess[].id")
Assert-Az 'Reading the app registration' $isNewApp
if ((Join-Sorted $requested) -eq (Join-Sorted ($permissions | ForEach-Object { $ids[$_] }))) {
    Write-Step 'already there' "permissions of the app registration: $permissions"
} else {
    $access = @($permissions | ForEach-Object { @{ id = $ids[$_]; type = 'Scope' } })
    ConvertTo-Json -InputObject @(@{ resourceAppId = $graph; resourceAccess = $access }) -Depth 4 |
        Set-Content -Path $file
    for ($try = 1; $try -le 12; $try++) {
        az ad app update --id $clientId --required-resource-accesses "@$file" --only-show-errors
        if ($LASTEXITCODE -eq 0 -or -not $isNewApp) { break }
        Start-Sleep -Seconds 10
    }
    Assert-Az 'Setting the permissions of the app registration'
    Write-Step 'changed' "permissions of the app registration: $permissions"
}

# The administrator's consent, for all users: there is nothing left for the account to agree to, which it often may not.
# What every sign-in asks for besides is part of it; offline_access lets the sign-in last.
$consent = $permissions + @('openid', 'profile', 'offline_access')
$graphId = az ad sp show --id $graph --query id --output tsv --only-show-errors
Assert-Az 'Looking up Microsoft Graph'
$granted = @(az ad app permission list-grants --id $clientId --output tsv --only-show-errors `
        --query "[?consentType=='AllPrincipals' && resourceId=='$graphId'].scope")
Assert-Az 'Reading the consent' $isNewApp
if ((Join-Sorted ("$granted" -split ' ')) -eq (Join-Sorted $consent)) {
    Write-Step 'already there' 'consent of the administrator'
} else {
    for ($try = 1; $try -le 12; $try++) {
        az ad app permission grant --id $clientId --api $graph --scope $consent `
            --output none --only-show-errors
        if ($LASTEXITCODE -eq 0 -or -not $isNewApp) { break }
        Start-Sleep -Seconds 10
    }
    Assert-Az 'Giving consent (it takes a Cloud Application Administrator or a Global Administrator)'
    Write-Step 'created' 'consent of the administrator'
}
"""

# What an application that signs in for itself needs: its certificate.  Nothing of Graph: what it may do is given in
# Exchange, for these mailboxes only.
APP_ONLY_APP = """
$file = [System.IO.Path]::GetTempFileName()
$known = @(az ad app credential list --id $clientId --cert --output tsv --only-show-errors `
        --query '[].[customKeyIdentifier, displayName][]')
Assert-Az 'Reading the certificates' $isNewApp
if ($known | Where-Object { $_ -in $thumbprint, $thumbprint64 }) {
    Write-Step 'already there' "certificate $thumbprint"
} else {
    Set-Content -Path $file -Value $certificate
    for ($try = 1; $try -le 12; $try++) {
        az ad app credential reset --id $clientId --append --cert "@$file" --display-name $thumbprint `
            --end-date $certificateEnd --output none --only-show-errors
        if ($LASTEXITCODE -eq 0 -or -not $isNewApp) { break }
        Start-Sleep -Seconds 10
    }
    Assert-Az 'Adding the certificate'
    Write-Step 'created' "certificate $thumbprint"
}

# Permissions in Entra would reach every mailbox of the tenant, whatever is limited in Exchange: they add up.
$graphUrl = az cloud show --query endpoints.microsoftGraphResourceId --output tsv --only-show-errors
Assert-Az 'Asking for the cloud'
$graphUrl = $graphUrl.TrimEnd('/')
$assigned = @(az rest --method get --url "$graphUrl/v1.0/servicePrincipals/$objectId/appRoleAssignments" `
        --query 'value[].appRoleId' --output tsv --only-show-errors)
Assert-Az 'Reading the permissions' $isNewApp
$lines = @(az ad sp show --id $graph --query 'appRoles[].[id, value]' --output tsv --only-show-errors)
Assert-Az 'Looking up the permissions of Microsoft Graph'
foreach ($line in $lines) {
    $id, $name = $line -split "`t"
    if ($name -like 'Mail.*' -and $id -in $assigned) {
        Write-Problem ("The application has $name for EVERY mailbox of the tenant. Take it away: " +
            "Entra > Enterprise applications > $appName > Permissions.")
    }
}
"""

# Cloud Shell has the module (cloud-shell/features.md); -Device is for shells without a browser
# (Connect-ExchangeOnline.md).  A connection may be one to Security & Compliance, or give the cmdlets other names
# (Get-ConnectionInformation.md, which takes version 3).  A mailbox is looked for by a filter, which finds nothing
# without an error; a whole address needs no smtp: in it (filter-properties.md).
EXCHANGE = """
Write-Host ''
Write-Host 'Mailboxes (Exchange Online)'
if (-not (Get-Module ExchangeOnlineManagement -ListAvailable | Where-Object { $_.Version -ge [version]'3.0.0' })) {
    Write-Host 'Installing the module ExchangeOnlineManagement for you (not for others).'
    Install-Module ExchangeOnlineManagement -Scope CurrentUser -Force -ErrorAction Stop
}
Import-Module ExchangeOnlineManagement -MinimumVersion 3.0.0 -ErrorAction Stop
$cloud = az cloud show --query name --output tsv --only-show-errors
$environment = switch ("$cloud") {
    'AzureUSGovernment' { 'O365USGovGCCHigh' }  # O365USGovDoD for the Department of Defense
    'AzureChinaCloud' { 'O365China' }
    default { 'O365Default' }
}
function Find-Connection() {
    return Get-ConnectionInformation | Where-Object {
        $_.State -eq 'Connected' -and "$($_.IsEopSession)" -ne 'True' -and -not $_.ModulePrefix
    }
}
if (-not (Find-Connection)) {
    Write-Host 'Sign in as Exchange Administrator or Global Administrator:'
    Connect-ExchangeOnline -Device -ShowBanner:$false -ExchangeEnvironmentName $environment -ErrorAction Stop
}
if (Find-Connection | Where-Object { $_.TenantID -ne $tenantId }) {
    throw "Exchange is connected to another tenant than $tenant. Run: Disconnect-ExchangeOnline -Confirm:`$false"
}

function Find-Mailbox($address) {
    $quoted = $address.Replace("'", "''")
    return Get-Mailbox -Filter "EmailAddresses -eq '$quoted'" -ErrorAction Stop
}

# Octets, of what Exchange shows as: 35 MB (36,700,160 bytes)
function Get-Octets($size) {
    if ("$size" -eq 'Unlimited') { return [long]::MaxValue }
    if ("$size" -match '\\(([\\d.,\\s]+) bytes\\)') { return [long]($Matches[1] -replace '\\D') }
    return 0
}

# Makes each limit large enough for the largest mail of the devices; never makes one smaller.
function Set-Size($mailbox, $address, $isNew) {
    if ($messageMb -eq 0) { return }
    $change = @{}
    foreach ($limit in 'MaxSendSize', 'MaxReceiveSize') {
        if ((Get-Octets "$($mailbox.$limit)") -lt $messageMb * 1048576) { $change[$limit] = "${messageMb}MB" }
    }
    if ($change.Count -eq 0) {
        Write-Step 'already there' "${address}: mail of $messageMb MB"
        return
    }
    Invoke-Patiently $isNew { Set-Mailbox -Identity $address @change -ErrorAction Stop }
    Write-Step 'changed' "${address}: mail of $messageMb MB"
}
"""

# The account that signs in.
ACCOUNT = """
try {
    $own = Find-Mailbox $account
    if (-not $own) {
        Write-Problem ("$account has no mailbox. Give it a licence with Exchange Online, " +
            'or correct the name and run m365proxy init again.')
    } elseif ($own.RecipientTypeDetails -ne 'UserMailbox') {
        Write-Problem ("$account is a $($own.RecipientTypeDetails), which cannot sign in. " +
            'Use the mailbox of a licensed user.')
    } else {
        Write-Step 'already there' "${account}: the mailbox that signs in"
        Set-Size $own $account $false
    }
} catch { Write-Problem "${account}: $_" }
"""

# Each mailbox; what one lacks does not stop the others.  No two in a tenant have the same name (New-Mailbox.md), which
# may be the alias and thereby the sign-in name as well.
MAILBOXES = """
foreach ($entry in $mailboxes) {
    $address = $entry.Address
    if ($address -eq $account) { continue }
    try {
        $isNew = $false
        $mailbox = Find-Mailbox $address
        if ($mailbox) {
            Write-Step 'already there' "${address}: $($mailbox.RecipientTypeDetails)"
        } elseif ($entry.New) {
            try {
                $mailbox = New-Mailbox -Shared -Name $entry.Name -DisplayName $entry.Name `
                    -PrimarySmtpAddress $address -ErrorAction Stop
            } catch {
                $mailbox = New-Mailbox -Shared -Name $entry.OtherName -DisplayName $entry.Name `
                    -PrimarySmtpAddress $address -ErrorAction Stop
            }
            $isNew = $true
            Write-Step 'created' "${address}: SharedMailbox"
        } else {
            Write-Problem ("${address}: there is no such mailbox. Correct the address, " +
                'or say in m365proxy init that it is new.')
            continue
        }
        Set-Size $mailbox $address $isNew
        Grant-Rights $mailbox $address $isNew
    } catch { Write-Problem "${address}: $_" }
}
"""

FULL_ACCESS = """
function Test-FullAccess($address) {
    return Get-MailboxPermission -Identity $address -User $account -ErrorAction Stop |
        Where-Object { $_.AccessRights -match 'FullAccess' -and "$($_.Deny)" -ne 'True' }
}
"""

# Where an account was given another SID, it is not found by it: then the right is given anew
# (Get-RecipientPermission.md).
SEND_AS = """
function Test-SendAs($address) {
    return Get-RecipientPermission -Identity $address -Trustee $account -ErrorAction Stop |
        Where-Object { $_.AccessRights -match 'SendAs' -and "$($_.AccessControlType)" -ne 'Deny' }
}
"""

GRANT_BEGIN = """
function Grant-Rights($mailbox, $address, $isNew) {"""

GRANT_FULL_ACCESS = """
    if (-not $isNew -and (Test-FullAccess $address)) {
        Write-Step 'already there' "${address}: FullAccess for $account"
    } else {
        Invoke-Patiently $isNew {
            Add-MailboxPermission -Identity $address -User $account -AccessRights FullAccess `
                -AutoMapping $false -ErrorAction Stop | Out-Null
        }
        Write-Step 'created' "${address}: FullAccess for $account"
    }"""

GRANT_SEND_AS = """
    if (-not $isNew -and (Test-SendAs $address)) {
        Write-Step 'already there' "${address}: SendAs for $account"
    } else {
        Invoke-Patiently $isNew {
            Add-RecipientPermission -Identity $address -Trustee $account -AccessRights SendAs `
                -Confirm:$false -ErrorAction Stop | Out-Null
        }
        Write-Step 'created' "${address}: SendAs for $account"
    }"""

# RBAC for Applications: the application reaches the mailboxes that are marked, and no others.
GRANT_MARK = """
    $value = "$($mailbox.$attribute)"
    if ($value -eq $mark) {
        Write-Step 'already there' "${address}: $attribute is $mark"
    } elseif ($value) {
        Write-Problem ("${address}: $attribute is in use already ('$value'). Put the name of a free one " +
            'into the line that begins with $attribute, at the top of the script, and into the one at its end.')
    } else {
        $change = @{ $attribute = $mark }
        Invoke-Patiently $isNew { Set-Mailbox -Identity $address @change -ErrorAction Stop }
        Write-Step 'changed' "${address}: $attribute is $mark"
    }"""

GRANT_END = """
}
"""

# The roles come from application-rbac.md; what is assigned is asked of Test-ServicePrincipalAuthorization (.md), whose
# ScopeType is Organization where nothing is limited.  Get-ManagementRoleAssignment.md names no applications.
APP_ONLY_ROLES = """
$isNewPrincipal = -not (Get-ServicePrincipal -ErrorAction Stop | Where-Object { $_.AppId -eq $clientId })
if (-not $isNewPrincipal) {
    Write-Step 'already there' 'service principal in Exchange'
} else {
    Invoke-Patiently $isNewApp {
        New-ServicePrincipal -AppId $clientId -ObjectId $objectId -DisplayName $appName -ErrorAction Stop | Out-Null
    }
    Write-Step 'created' 'service principal in Exchange'
}
$restriction = "$attribute -eq '$($mark.Replace("'", "''"))'"
$scope = Get-ManagementScope -ErrorAction Stop | Where-Object { $_.Name -eq $appName }
if ($scope) {
    # Exchange may put parentheses around it.
    if (("$($scope.RecipientFilter)" -replace '[()\\s]') -ne ($restriction -replace '[()\\s]')) {
        throw "The management scope $appName is for others: $($scope.RecipientFilter). It should be: $restriction"
    }
    Write-Step 'already there' "management scope ${appName}: $restriction"
} else {
    if ("$((Get-OrganizationConfig -ErrorAction Stop).IsDehydrated)" -eq 'True') {
        throw 'Exchange takes no management scopes in this tenant yet. Run, once: Enable-OrganizationCustomization'
    }
    New-ManagementScope -Name $appName -RecipientRestrictionFilter $restriction -ErrorAction Stop | Out-Null
    Write-Step 'created' "management scope ${appName}: $restriction"
}
$given = @()
# One that was just made may not be known yet, and has no roles.
try { $given = @(Test-ServicePrincipalAuthorization -Identity $clientId -ErrorAction Stop) }
catch { if (-not $isNewPrincipal) { throw } }
foreach ($role in $roles) {
    if ($given | Where-Object { $_.RoleName -eq $role -and $_.AllowedResourceScope -eq $appName }) {
        Write-Step 'already there' "role $role"
        continue
    }
    try {
        Invoke-Patiently $isNewPrincipal {
            New-ManagementRoleAssignment -App $objectId -Role $role -CustomResourceScope $appName `
                -ErrorAction Stop | Out-Null
        }
        Write-Step 'created' "role $role"
    } catch { Write-Problem "role ${role}: $_ (It takes a member of the role group Organization Management.)" }
}
foreach ($right in $given) {
    if ($right.ScopeType -eq 'Organization') {
        Write-Problem ("The application has the role $($right.RoleName) for EVERY mailbox of the tenant. " +
            'Take it away with Remove-ManagementRoleAssignment.')
    }
}
"""

SHOWN_BEGIN = """
Write-Host ''
Write-Host 'What is granted now (new rights take up to two hours to work everywhere)'
"""

# Asked anew: not what was done, but what Exchange and Entra say.
SHOWN_DELEGATED = """\
foreach ($entry in $mailboxes) {
    $address = $entry.Address
    if ($address -eq $account) { continue }
    try {
        $mailbox = Find-Mailbox $address
        if (-not $mailbox) { continue }
        $rights = @()
        if (Test-FullAccess $address) { $rights += 'FullAccess' }
        if (Test-SendAs $address) { $rights += 'SendAs' }
        if (-not $rights) { $rights += 'no rights yet' }
        Write-Host "  ${address}: $account has $($rights -join ', ')"
        Write-Host "      sends up to $($mailbox.MaxSendSize), receives up to $($mailbox.MaxReceiveSize)"
    } catch { Write-Problem "${address}: $_" }
}
$granted = @(az ad app permission list-grants --id $clientId --output tsv --only-show-errors `
        --query "[?consentType=='AllPrincipals' && resourceId=='$graphId'].scope")
Assert-Az 'Reading the consent'
Write-Host "  Microsoft Graph, for $account and all others who sign in: $granted"
"""

SHOWN_APP_ONLY = """\
foreach ($entry in $mailboxes) {
    try {
        Write-Host "  $($entry.Address)"
        Test-ServicePrincipalAuthorization -Identity $clientId -Resource $entry.Address -ErrorAction Stop |
            Format-Table 'RoleName', 'AllowedResourceScope', 'InScope' -AutoSize | Out-String | Write-Host
    } catch { Write-Problem "$($entry.Address): $_" }
}
"""

# The ids come last, and also after a failure: they are of use as soon as there is an app registration.
CLOSING = """\
} catch {
    Write-Problem "$_"
    Write-Host 'The script stopped there. Mend it and run the script again: what is done already stays as it is.'
} finally {
    if ($file) { Remove-Item -Path $file -ErrorAction SilentlyContinue }
}

Write-Host ''
if ($problems.Count -eq 0) {
    Write-Host 'Everything is there. Paste the next line into m365proxy init, or run: m365proxy init --ids "..."'
} else {
    Write-Host "Not everything is there. Problems: $($problems.Count). The first:" -ForegroundColor Red
    Write-Host $problems[0] -ForegroundColor Red
}
if ($clientId) { Write-Host "m365proxy ids: tenant_id=$tenantId client_id=$clientId" }
}
"""
